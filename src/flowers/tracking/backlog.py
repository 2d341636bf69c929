"""Records on their way to MLflow, kept while its store cannot take them."""

import sys
from collections.abc import Callable

from flowers.config.schema import Tracking
from flowers.errors import UserError
from flowers.tracking.store import check_unlocked, explain_store_errors


class Backlog:
    """Records of a training, handed to the store in order; while the store cannot take them they wait here.

    So another program that locks the store for a while costs a training nothing. It is said once.
    """

    def __init__(self, tracking: Tracking) -> None:
        self._uri = tracking.uri
        self._waiting: list[Callable[[], None]] = []
        self._told = False

    @property
    def missing(self) -> int:
        """Number of records that the store does not have yet."""
        return len(self._waiting)

    def add(self, *records: Callable[[], None]) -> None:
        """Hand over what waits and then these, as far as the store can take them now.

        Args:
            records: Calls of the ``log_`` functions of :mod:`flowers.tracking.log`.
        """
        self._waiting += records
        try:
            with explain_store_errors(self._uri):
                while self._waiting:
                    check_unlocked(self._uri)
                    self._waiting[0]()
                    del self._waiting[0]
        except UserError as error:
            if not self._told:
                print(f"flowers: {error} The training goes on; its record is kept until then.", file=sys.stderr)
            self._told = True
