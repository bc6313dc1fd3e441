"""jinja2 as transformers sets it up, with a clock that stands still, for the scripts that compare with it."""
import datetime
import os
import resource
import signal
import time

import transformers.utils.chat_template_utils as chat_template_utils

NOW = 1_750_000_000
MOST_SECONDS, MOST_MEMORY = 20, 6 << 30


class FixedDate(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(NOW, tz)


class TooLong(Exception):
    pass


def alarm(*_):
    raise TooLong


def set_up():
    chat_template_utils.datetime = FixedDate
    os.environ["TZ"] = "UTC"
    time.tzset()


def compile_template(template):
    return chat_template_utils._compile_jinja_template(template)


def render(template, contexts):
    """{"text": ...} or {"error": ...} for each context, as an object that has what transformers always passes."""
    try:
        compiled = compile_template(template)
    except Exception as error:  # of whatever kind: a user sees a refusal
        return [{"error": f"{type(error).__name__}: {error}"}] * len(contexts)
    answers = []
    for context in contexts:
        try:
            answers.append({"text": compiled.render(**{"tools": None, "documents": None, "add_generation_prompt": False, **context})})
        except (MemoryError, RecursionError, TooLong):
            raise
        except Exception as error:
            answers.append({"error": f"{type(error).__name__}: {error}"})
    return answers


def render_within_limits(template, contexts):
    """As render(); None where Python needs too much time, memory or depth."""
    signal.signal(signal.SIGALRM, alarm)
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    signal.alarm(MOST_SECONDS)
    try:
        return render(template, contexts)
    except (TooLong, RecursionError, MemoryError):
        return None
    finally:
        signal.alarm(0)
