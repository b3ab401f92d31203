"""One campaign in memory and its journal, kept in step."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from msgspec.structs import replace

from .. import core
from ..core import Archive, Campaign, CampaignSpec, Earlier, Entry, Fact, Journal, Lease, Ledger, LoadedModel, Models

log = logging.getLogger(__name__)

Clock = Callable[[], float]
Listener = Callable[[Entry, Campaign], None]


class Recorder:
    """The only way a fact gets into a campaign: it must fold, and then is appended.

    The campaign in memory is ahead of the disk by the facts being written. That is safe because the journal
    writes in order and stops at the first failure: no fact is durable before those it stands on. A stage goes
    on to its deed only once its own fact is durable, or, where it records none before, `on_disk`.

    One write is under way at a time; what is folded meanwhile is the next one, so that many facts share a sync.
    """

    def __init__(
        self, journal: Journal, lease: Lease, campaign: Campaign, ledger: Ledger, clock: Clock, by: str
    ) -> None:
        self.journal, self.lease, self.clock, self.by = journal, lease, clock, by
        self.campaign, self.ledger = campaign, ledger
        self.listeners: list[Listener] = []
        self.broken: BaseException | None = None
        """Why nothing more can be written: what was folded since the last durable fact is lost."""
        self._beat: asyncio.Future[None] | None = None
        self._on_disk = campaign.seq
        self._folded: list[tuple[Entry, str, Campaign]] = []
        self._writing: asyncio.Task[None] | None = None
        self._awaiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def record(self, fact: Fact, by: str = "", mail: str = "") -> None:
        """Fold a fact and make it durable. Raises InconsistentError (nothing is written) or Conflict."""
        self.fold(fact, by, mail)
        await self.on_disk()

    def fold(self, fact: Fact, by: str = "", mail: str = "") -> None:
        """Fold a fact, which becomes durable soon. Raises InconsistentError (nothing is written) or what broke."""
        if self.broken is not None:
            raise self.broken
        campaign = self.campaign
        if isinstance(fact, core.TrialAdded) and not fact.trial:
            fact = replace(fact, trial=core.next_trial(campaign))
        fact = self.ledger.completed(fact)
        # A clock set back must not make a journal whose times run backwards.
        entry = Entry(seq=campaign.seq + 1, at=max(self.clock(), campaign.last), by=by or self.by, fact=fact)
        after = core.reduce(campaign, entry)
        self.ledger.add(entry)
        self.campaign = after
        self._folded.append((entry, mail, after))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write())
        self.wake()

    async def _write(self) -> None:
        """Make durable what is folded, batch after batch, until there is no more or the journal fails."""
        try:
            while self._folded:
                batch, self._folded = self._folded, []
                await append_all(self.journal, self.lease, [(entry, mail) for entry, mail, _ in batch])
                self._on_disk = batch[-1][0].seq
                for entry, _, after in batch:
                    for listen in self.listeners:
                        listen(entry, after)
                while self._awaiting and self._awaiting[0][0] <= self._on_disk:
                    _, durable = self._awaiting.popleft()
                    if not durable.done():
                        durable.set_result(None)
        except BaseException as error:
            self.broken = error if isinstance(error, Exception) else core.Conflict("writing was interrupted")
            for _, durable in self._awaiting:
                if not durable.done():
                    durable.set_exception(self.broken)
            self._awaiting.clear()
            self.wake()
            if not isinstance(error, Exception):
                raise

    async def answer_mail(self) -> None:
        """Record what people have asked for, or refuse it with the reason."""
        for mail in await self.journal.mail(self.campaign.spec.id):
            refusal = ""
            if isinstance(mail.fact, core.BY_PERSON):
                try:
                    self.fold(mail.fact, by=mail.by, mail=mail.id)
                except core.InconsistentError as error:
                    refusal = str(error)
            else:
                refusal = f"{type(mail.fact).__name__} is not for a person to record"
            if refusal:
                # A refusal must not outlive the facts it was given for.
                await self.on_disk()
                await self.journal.answer(self.lease, mail.id, refusal)
        await self.on_disk()

    async def on_disk(self) -> None:
        """Wait until every fact folded so far is durable: what is done on their strength must not outlive them."""
        if self.broken is not None:
            raise self.broken
        if self._on_disk < self.campaign.seq:
            durable = asyncio.get_running_loop().create_future()
            self._awaiting.append((self.campaign.seq, durable))
            await durable

    async def let_go(self) -> None:
        """Release the lease, once what was folded is written."""
        try:
            if self._writing is not None:
                await asyncio.wait((self._writing,))
        finally:
            await self.lease.release()

    def next_change(self) -> asyncio.Future[None]:
        """Done once another fact has been folded."""
        if self._beat is None:
            self._beat = asyncio.get_running_loop().create_future()
        return self._beat

    def wake(self) -> None:
        """Have whoever waits for a change look again."""
        if self._beat is not None:
            self._beat.set_result(None)
            self._beat = None


async def append_all(journal: Journal, lease: Lease, entries: Sequence[tuple[Entry, str]]) -> None:
    """Make entries, each with its mail, durable together, as well as the journal can."""
    if isinstance(journal, core.AppendsTogether):
        await journal.append_all(lease, entries)
        return
    for end in await asyncio.gather(*(journal.append(lease, *one) for one in entries), return_exceptions=True):
        if end is not None:
            raise end


async def create(
    spec: CampaignSpec, journal: Journal, clock: Clock, by: str, added: Sequence[core.TrialAdded] = ()
) -> None:  # fmt: skip
    """Open a new campaign, with trials that were performed before it. Raises Conflict where the id is taken, Held where
    somebody is about to take it, and InconsistentError where such a trial cannot follow."""
    lease = await journal.lease(spec.id, by)
    try:
        entries = [Entry(seq=1, at=clock(), by=by, fact=core.CampaignOpened(spec=spec))]
        campaign, ledger = core.open_campaign(entries[0]), Ledger()
        ledger.add(entries[0])
        for fact in added:
            whole = ledger.completed(replace(fact, trial=core.next_trial(campaign)))
            entries.append(Entry(seq=campaign.seq + 1, at=campaign.last, by=by, fact=whole))
            campaign = core.reduce(campaign, entries[-1])
            ledger.add(entries[-1])
        if added:
            await append_all(journal, lease, [(entry, "") for entry in entries])
        else:
            await journal.append(lease, entries[0])
    finally:
        await lease.release()


async def restore(entries: Sequence[Entry], journal: Journal) -> None:
    """Take in a campaign's journal as it was elsewhere. Raises Conflict where the id is taken, and InconsistentError
    where the entries are not one history."""
    campaign, ledger = core.open_campaign(entries[0]), Ledger()
    for entry in entries[1:]:
        campaign = core.reduce(campaign, entry)
    for entry in entries:
        ledger.add(entry)
    lease = await journal.lease(campaign.spec.id, entries[0].by)
    try:
        await append_all(journal, lease, [(entry, "") for entry in entries])
    finally:
        await lease.release()


async def recover(
    campaign_id: str, journal: Journal, archive: Archive | None = None, upto: int | None = None,
    models: Models | None = None,
) -> tuple[Campaign, Ledger]:  # fmt: skip
    """Both folds of a campaign's journal: as it stands, or as it stood after the entry `upto`.

    With an archive the ledger's views have what earlier campaigns brought, with models those that it decides with.
    Raises LookupError where there is none.
    """
    campaign: Campaign | None = None
    ledger = Ledger()
    async for entry in journal.read(campaign_id):
        if upto is not None and entry.seq > upto:
            break
        campaign = core.open_campaign(entry) if campaign is None else core.reduce(campaign, entry)
        ledger.add(entry)
    if campaign is None:
        raise LookupError(f"there is no campaign {campaign_id}")
    if archive is not None:
        ledger.earlier = await read_earlier(campaign, archive)
    if models is not None:
        ledger.models = await load_models(campaign, models)
    return campaign, ledger


async def load_models(campaign: Campaign, models: Models) -> Mapping[str, LoadedModel]:
    """The versions that a campaign decides with, but for those that may not be used any more."""
    loaded = dict[str, LoadedModel]()
    for name, version in (campaign.models or {}).items():
        try:
            loaded[name] = await models.load(version)
        except core.Unusable as error:
            log.warning("campaign %s goes on without model %s: %s", campaign.spec.id, name, error)
    return loaded


async def read_earlier(campaign: Campaign, archive: Archive) -> tuple[Earlier, ...]:
    """What the campaigns that inform this one brought."""
    return tuple([await archive.read(campaign.spec, chosen) for chosen in campaign.earlier or ()])


async def take_up(
    campaign_id: str, journal: Journal, clock: Clock, by: str, archive: Archive | None = None,
    models: Models | None = None,
) -> Recorder:  # fmt: skip
    """Take the lease of a campaign and bring it back as its journal says. Raises Held or LookupError."""
    lease = await journal.lease(campaign_id, by)
    try:
        campaign, ledger = await recover(campaign_id, journal, archive, models=models)
    except BaseException:
        await lease.release()
        raise
    return Recorder(journal, lease, campaign, ledger, clock, by)
