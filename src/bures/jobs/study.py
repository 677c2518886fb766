"""A study that many processes work on: every trial is finished once, whichever of them is killed.

All trials are queued when the study is made, each with the number of its cell. A worker takes the next one; one that
dies stops sending its heartbeat, and the next worker to look queues its trial again. The queue lives in Optuna's
relational storage (SQLite, or PostgreSQL for many machines), which hands a waiting trial to one worker only.

A search that one process works on, killed and begun again, tries the same cells in the same order with the same draws:
it ends as if nobody had killed it.
"""

from __future__ import annotations

import time
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

from bures.errors import ConfigError, needs

if TYPE_CHECKING:
    import optuna

CELL, TRIALS = "cell", "trials"
"""User attributes: a trial's number in the queue, and how many a study has."""

_ALIVE = "alive"

_OWNER, _SHARED = "owner", "shared"
"""Attributes of a study: whose run folder it began in, and whether anybody else has ever worked on it."""

HEARTBEAT, GRACE = 20, 90
"""Seconds between signs of life, and without one until a trial is given to somebody else."""


def optuna_module() -> Any:
    """Optuna, quiet.

    Raises:
        ConfigError: it is not installed.
    """
    with needs("search", "a search"):
        import optuna
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    return optuna


def open_storage(url: str, *, heartbeat: int = HEARTBEAT, grace: int = GRACE) -> optuna.storages.RDBStorage:
    """Optuna's relational storage at an SQLAlchemy URL, with heartbeat and retry.

    Args:
        url: `sqlite:///search.db`, `postgresql+psycopg://user@host/database`.
        heartbeat: seconds between signs of life.
        grace: seconds without one until a trial counts as abandoned.

    Raises:
        ConfigError: Optuna or the database's driver is missing, or the database cannot be reached.
    """
    storages = optuna_module().storages
    engine = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {"pool_pre_ping": True}
    try:
        with needs("postgres", f"the storage {_hidden(url)} (PostgreSQL is postgresql+psycopg://...)"):
            storage = storages.RDBStorage(
                url,
                engine_kwargs=engine,
                heartbeat_interval=heartbeat,
                grace_period=grace,
                heartbeat_stale_trial_callback=storages.RetryHeartbeatStaleTrialCallback(),
            )
            if url.startswith("sqlite"):
                _lock_before_reading(storage)
            return storage
    except Exception as error:
        if not type(error).__module__.startswith(("sqlalchemy", "psycopg", "sqlite3", "optuna")):
            raise
        reason = str(error).strip().splitlines()[0][:200]
        raise ConfigError(
            f"cannot open the storage {_hidden(url)} ({reason}); expected for example sqlite:///search.db or "
            "postgresql+psycopg://user:password@host/database"
        ) from error


def _lock_before_reading(storage: optuna.storages.RDBStorage) -> None:
    """Makes SQLite's transactions exclude each other from their first read on.

    Its driver begins one with the first write only, so that two workers may both read that a trial waits, and both take
    it. https://docs.sqlalchemy.org/en/20/dialects/sqlite.html#pysqlite-serializable
    """
    from sqlalchemy import event

    engine = storage.engine

    def by_hand(connection: Any, _: Any) -> None:
        connection.isolation_level = None

    def begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    event.listen(engine, "connect", by_hand)
    event.listen(engine, "begin", begin)
    storage.remove_session()
    engine.dispose()  # what was opened before does not know of it


def create_study(
    storage: optuna.storages.RDBStorage,
    name: str,
    trials: int,
    attributes: Mapping[str, Any],
    owner: str | None = None,
    begin: Sequence[Mapping[str, Any]] = (),
) -> optuna.Study:
    """A study (first value to be large, second small) with its trials queued, or the one that is there already.

    Cells that nobody finished, runs or waits for (a worker was interrupted) are queued again.

    Args:
        storage: where it lives.
        name: of the study.
        trials: how many.
        attributes: what a worker that joins has to know.
        owner: what only one living process can be: what it left when it was killed is queued again at once, before
            what waits, unless others have worked on the study too.

    Raises:
        ConfigError: the storage holds a study of that name with other attributes.
    """
    optuna = optuna_module()
    study = optuna.create_study(
        storage=storage, study_name=name, directions=["maximize", "minimize"], load_if_exists=True
    )
    _require_same(study, attributes)
    if owner is not None and _is_alone(study, owner):
        _take_back(storage, study)
    for key, value in attributes.items():
        study.set_user_attr(key, value)
    study.set_user_attr(TRIALS, max(trials, study.user_attrs.get(TRIALS, 0)))
    lost = optuna.trial.TrialState.FAIL
    taken = {t.user_attrs.get(CELL) for t in study.get_trials(deepcopy=False) if t.state != lost}
    for cell in range(study.user_attrs[TRIALS]):
        if cell not in taken:
            study.enqueue_trial(dict(begin[cell]) if cell < len(begin) else {}, user_attrs={CELL: cell})
    return study


def require_free(storage: optuna.storages.RDBStorage, name: str, attributes: Mapping[str, Any]) -> None:
    """Refuses what `create_study` would refuse, and makes nothing.

    Raises:
        ConfigError: the storage holds a study of that name with other attributes.
    """
    optuna = optuna_module()
    if name in optuna.get_all_study_names(storage):
        _require_same(optuna.load_study(study_name=name, storage=storage), attributes)


def _require_same(study: optuna.Study, attributes: Mapping[str, Any]) -> None:
    held = {key: study.user_attrs[key] for key in attributes if key in study.user_attrs}
    if held and held != dict(attributes):
        raise ConfigError(f"the storage holds a search {study.study_name!r} with other options; choose another --study")


def _is_alone(study: optuna.Study, owner: str) -> bool:
    """Whether nobody but the owner has worked on it."""
    held = study.user_attrs.get(_OWNER)
    if held is None:
        study.set_user_attr(_OWNER, owner)
    elif held != owner:
        study.set_user_attr(_SHARED, True)
    return not study.user_attrs.get(_SHARED, False)


def _take_back(storage: optuna.storages.RDBStorage, study: optuna.Study) -> None:
    """Ends what a dead process ran, and what waits: all that is left is then queued in the order of its cells."""
    state = optuna_module().trial.TrialState
    for trial in study.get_trials(deepcopy=False, states=(state.RUNNING, state.WAITING)):
        if trial.state == state.WAITING and not storage.set_trial_state_values(_id(trial), state=state.RUNNING):
            continue  # somebody who joins this moment has it
        _failed(storage, trial)


def join_study(storage: optuna.storages.RDBStorage, name: str) -> optuna.Study:
    """A study that another process made.

    Raises:
        ConfigError: the storage holds none of that name.
    """
    optuna = optuna_module()
    try:
        study = optuna.load_study(study_name=name, storage=storage)
        study.set_user_attr(_SHARED, True)
        return study
    except KeyError as error:
        names = ", ".join(repr(each) for each in optuna.get_all_study_names(storage)) or "none"
        raise ConfigError(f"the storage holds no search {name!r}; it holds {names}; give --study") from error


def work(
    storage: optuna.storages.RDBStorage,
    study: optuna.Study,
    objective: Callable[[optuna.Trial], Sequence[float]],
    *,
    advance: Callable[[int], object] | None = None,
    poll: float = 1.0,
) -> None:
    """Takes trials until none is left, waiting for those of other workers in case they are abandoned.

    Args:
        storage: where the study lives.
        study: a study whose trials are queued.
        objective: two values for a trial; may raise `optuna.TrialPruned`.
        advance: called with how many trials, of all workers, have been finished since the last call.
        poll: seconds between looks at the others.
    """
    optuna = optuna_module()
    state = optuna.trial.TrialState

    def guarded(trial: optuna.Trial) -> Sequence[float]:
        if CELL not in trial.user_attrs:  # made because another worker was quicker to take the last one
            raise optuna.TrialPruned
        storage.record_heartbeat(_id(trial))  # Optuna's own first one comes from a thread, a moment later
        trial.set_user_attr(_ALIVE, True)
        try:
            return objective(trial)
        finally:
            taken_over[:] = [trial.number] if storage.get_trial(_id(trial)).state != state.RUNNING else []

    told, taken_over = 0, list[int]()
    while True:
        optuna.storages.fail_stale_trials(study)
        _fail_stillborn(storage, study)
        states = Counter(trial.state for trial in study.get_trials(deepcopy=False))
        done = len(finished(study))
        if advance is not None and done > told:
            advance(done - told)
        told = done
        if states[state.WAITING]:
            try:
                study.optimize(cast("Any", guarded), n_trials=1)
            except Exception:
                if not taken_over:  # another worker thought that this one was dead, and has the trial now
                    raise
        elif states[state.RUNNING]:
            time.sleep(poll)
        else:
            return


def _fail_stillborn(storage: optuna.storages.RDBStorage, study: optuna.Study) -> None:
    """Queues again what was taken by a worker that died before its first heartbeat; Optuna would wait for ever."""
    state = optuna_module().trial.TrialState
    for trial in study.get_trials(deepcopy=False, states=(state.RUNNING,)):
        began = trial.datetime_start
        if _ALIVE in trial.user_attrs or began is None:
            continue
        if (datetime.now() - began).total_seconds() > (storage.grace_period or GRACE) and _failed(storage, trial):
            retry = storage.get_heartbeat_stale_trial_callback()
            if retry is not None:
                retry(study, trial)


def _failed(storage: optuna.storages.RDBStorage, trial: optuna.trial.FrozenTrial) -> bool:
    """Marks a trial as failed; False where another worker was quicker."""
    optuna = optuna_module()
    try:
        return storage.set_trial_state_values(_id(trial), state=optuna.trial.TrialState.FAIL)
    except optuna.exceptions.UpdateFinishedTrialError:
        return False


def finished(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """The queued trials that were finished, pruned ones too, by their cells."""
    state = optuna_module().trial.TrialState
    ended = study.get_trials(deepcopy=False, states=(state.COMPLETE, state.PRUNED))
    return sorted((trial for trial in ended if CELL in trial.user_attrs), key=lambda trial: trial.user_attrs[CELL])


def _hidden(url: str) -> str:
    """A URL without what stands before the @: it may hold a password."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"


def _id(trial: optuna.trial.FrozenTrial | optuna.Trial) -> int:
    """What the storage calls a trial; Optuna has no public name for it."""
    return int(cast("Any", trial)._trial_id)
