"""Whether a change on a page has stood for long enough to count.  Keeps no state of its own."""

from datetime import datetime, timedelta

from kdpo_daemon.records.intake import Page, Waiting

#: Seconds until a change that cannot be told yet is looked at again, if it need not stand longer.
_LATER_S = 24 * 3600


class Debounce:
    """The changes of one page, seen at one time; `waiting` is what to remember of them."""

    def __init__(self, page: Page, now: datetime, settle_s: int) -> None:
        self.waiting: dict[str, Waiting] = {}
        self._page, self._now, self._settle_s = page, now, settle_s

    def stands(self, key: str, value: str) -> bool:
        """Tell whether a change to `value` has stood; if not, it waits from when it was seen."""
        seen = self._page.waiting.get(key)
        if seen is None or seen.value != value:
            seen = Waiting(value, self._now + timedelta(seconds=self._settle_s))
        if seen.stands_at <= self._now:
            return True
        self.waiting[key] = seen
        return False

    def put_off(self, key: str, value: str) -> None:
        """Look at a change again later, although it has stood."""
        wait = timedelta(seconds=max(self._settle_s, _LATER_S))
        self.waiting[key] = Waiting(value, self._now + wait)
