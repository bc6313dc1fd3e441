"""What the scripts that make the model fixtures share: batches, the float64 reference model, files.

Expected values are computed in float64 from float32 weights. transformers keeps parts of its models in float32
whatever the dtype (RMSNorm, the rotary angles), so exact_float64() replaces those forwards by the same formulas
in float64. The rotary frequencies stay the float32 numbers that transformers makes: they define the model.
"""

import json
import os
import types

import torch
import transformers
from safetensors.torch import load_file, save_file

FIXTURES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "fixtures", "models")
IGNORED = -100

# One thread: a second run of a script writes the same bits.
torch.set_num_threads(1)


def versions():
    found = {"torch": torch.__version__, "transformers": transformers.__version__}
    try:
        import peft

        found["peft"] = peft.__version__
    except ImportError:
        pass
    return found


def write_json(path, value):
    """One key a line: diffs stay readable and long arrays do not take a line an element."""
    lines = [f"  {json.dumps(key)}: {json.dumps(item)}" for key, item in value.items()]
    with open(path, "w", encoding="utf-8") as file:
        file.write("{\n" + ",\n".join(lines) + "\n}\n")


def write_tensors(path, tensors):
    save_file({name: tensors[name].detach().contiguous() for name in sorted(tensors)}, path,
              metadata={"format": "pt"})
    os.chmod(path, 0o644)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def randomize(model, generator):
    """Weights that make every part matter: norms around 1, biases not 0, logits of a few units."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if "norm" in name:
                parameter.copy_(1 + 0.2 * noise)
            elif name.endswith("bias"):
                parameter.copy_(0.2 * noise)
            elif "embed_tokens" in name:
                parameter.copy_(0.4 * noise)
            else:
                parameter.copy_(noise / parameter.shape[1] ** 0.5)


def load_model(name):
    """The float32 model of a fixture directory."""
    directory = os.path.join(FIXTURES, name)
    config = transformers.AutoConfig.from_pretrained(directory)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="sdpa")
    missing, unexpected = model.load_state_dict(load_file(os.path.join(directory, "model.safetensors")), strict=False)
    allowed = {"lm_head.weight"} if config.tie_word_embeddings else set()
    assert set(missing) <= allowed and not unexpected, (name, missing, unexpected)
    return model.eval()


def _norm_forward(self, x):
    return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon))


def _rotary_forward(self, x, position_ids):
    half = position_ids[..., None].to(x.dtype) * self.inv_freq.to(x.dtype)
    angles = torch.cat((half, half), dim=-1)
    return angles.cos() * self.attention_scaling, angles.sin() * self.attention_scaling


def exact_float64(model):
    """In place: every number of the forward pass in float64. Attention must be sdpa (eager casts the softmax)."""
    model.double()
    for module in model.modules():
        kind = type(module).__name__
        if kind.endswith("RMSNorm"):
            module.forward = types.MethodType(_norm_forward, module)
        elif kind.endswith("RotaryEmbedding"):
            module.forward = types.MethodType(_rotary_forward, module)
    return model


def adapter_parameters(model):
    """Saved name (as in adapter_model.safetensors) -> parameter of the adapter."""
    return {name.replace(".default.", "."): parameter for name, parameter in model.named_parameters()
            if ".lora_" in name}


def save_adapter(model, directory):
    """As PEFT writes it, less its README; the targets, a set in PEFT, are sorted to write the same bytes again."""
    model.save_pretrained(directory, save_embedding_layers=False)
    os.remove(os.path.join(directory, "README.md"))
    os.chmod(os.path.join(directory, "adapter_model.safetensors"), 0o644)
    path = os.path.join(directory, "adapter_config.json")
    with open(path, encoding="utf-8") as file:
        config = json.load(file)
    if isinstance(config["target_modules"], list):
        config["target_modules"].sort()
    with open(path, "w", encoding="utf-8") as file:
        json.dump(config, file, indent=2)
        file.write("\n")


def document(tokens, unlabelled=()):
    """`unlabelled`: positions without a label, as in the prompt of a chat."""
    labels = [IGNORED if i in unlabelled else token for i, token in enumerate(tokens)]
    return {"input_ids": list(tokens), "labels": labels}


def pack(documents):
    """The packed layout of documents: row i of the batch predicts label_ids[j] where label_rows[j] == i."""
    packed = {"input_ids": [], "position_ids": [], "cu_seqlens": [0], "labels": [], "label_rows": [], "label_ids": []}
    for item in documents:
        start = len(packed["input_ids"])
        packed["input_ids"] += item["input_ids"]
        packed["labels"] += item["labels"]
        packed["position_ids"] += range(len(item["input_ids"]))
        packed["cu_seqlens"].append(start + len(item["input_ids"]))
        for i, label in enumerate(item["labels"][1:]):
            if label != IGNORED:
                packed["label_rows"].append(start + i)
                packed["label_ids"].append(label)
    return packed


def labelled_tokens(documents):
    return sum(label != IGNORED for item in documents for label in item["labels"][1:])


def document_logits(model, item):
    return model(input_ids=torch.tensor([item["input_ids"]]), use_cache=False).logits[0]


def summed_loss(logits, item):
    """Sum of the NLL over the labelled tokens of one document, never below float32."""
    if logits.dtype != torch.float64:
        logits = logits.float()
    return torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(item["labels"][1:], dtype=torch.long),
                                             ignore_index=IGNORED, reduction="sum")


def evaluate(model, documents):
    """(logits of all documents, packed; mean NLL over the labelled tokens)."""
    logits = [document_logits(model, item) for item in documents]
    total = sum(summed_loss(rows, item) for rows, item in zip(logits, documents))
    return torch.cat(logits), total / labelled_tokens(documents)


def relative_error(value, reference):
    value, reference = value.detach().double(), reference.detach().double()
    return ((value - reference).norm() / reference.norm()).item()


def gradients(parameters, model, documents):
    """(logits, loss, name -> gradient) of these parameters; leaves no gradient behind."""
    logits, loss = evaluate(model, documents)
    found = torch.autograd.grad(loss, list(parameters.values()))
    return logits.detach(), loss.item(), dict(zip(parameters, found))


def total_norm(tensors):
    return sum(tensor.double().pow(2).sum() for tensor in tensors.values()).sqrt().item()


def float32_errors(single, reference):
    """How far transformers itself is from the float64 values in float32; both as gradients() returns them."""
    errors = {name: relative_error(single[2][name], reference[2][name]) for name in reference[2]}
    worst = max(errors, key=errors.get)
    return {"logits_relative_error": relative_error(single[0], reference[0]), "loss": single[1],
            "largest_gradient_relative_error": errors[worst], "gradient_of": worst}


def uneven_documents(vocab_size, lengths, generator):
    """Random tokens; the first document has an unlabelled prompt, the last two unlabelled spans."""
    documents = []
    for index, length in enumerate(lengths):
        tokens = torch.randint(vocab_size, (length,), generator=generator).tolist()
        unlabelled = []
        if index == 0:
            unlabelled = range(4)
        elif index == len(lengths) - 1:
            unlabelled = list(range(3)) + list(range(9, 13))
        documents.append(document(tokens, unlabelled))
    return documents
