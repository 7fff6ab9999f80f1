"""Ask and steer vLLM servers over HTTP.  Does not start them, and decides nothing."""

from kdpo_daemon.serving.aliases import AliasMode
from kdpo_daemon.serving.doctor import Problem, check
from kdpo_daemon.serving.line import Access, ServingPolicy
from kdpo_daemon.serving.replica import Question, Replica

__all__ = ["Access", "AliasMode", "Problem", "Question", "Replica", "ServingPolicy", "check"]
