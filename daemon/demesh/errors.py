"""What can go wrong outside the core, as exceptions; each carries the command line's exit code.

    DemeshError
    ├── ConfigError      78  a file a person wrote is wrong; names file, key, what was expected
    ├── KeyFileError     77  a key is missing, unreadable or readable by others
    ├── TemporaryError   75  broker unreachable, port in use: trying again may help
    ├── StorageError     74  a store cannot be read or written
    ├── MissingError     69  something that is installed beside this is not there
    ├── UnfitError       70  this machine's libraries are not what every machine's must be
    ├── FaultError       70  a fault of our own ended what had been started; report it
    ├── RefusedError     76  the ledger's rules, or owners, do not allow what is asked
    ├── ProofError       65  a proof does not hold, or there is nothing to prove
    └── InputError       65  what a command was told, or given to read, does not fit

A peer's fault is never an exception: it is a `Reject` code, counted and observed.
Our own fault is an assertion: the process dies and restarts from its journal.
"""


class DemeshError(Exception):
    """One line for a person: what was expected, what came, what to do."""

    exit_code = 1


class ConfigError(DemeshError):
    """A configuration or scenario file is wrong (EX_CONFIG)."""

    exit_code = 78


class KeyFileError(DemeshError):
    """A key file is missing, unreadable, malformed or open to others (EX_NOPERM)."""

    exit_code = 77


class TemporaryError(DemeshError):
    """The world is not ready; the same command may work later (EX_TEMPFAIL)."""

    exit_code = 75


class StorageError(DemeshError):
    """A store cannot be read or written (EX_IOERR)."""

    exit_code = 74


class MissingError(DemeshError):
    """An optional library that a command needs is not installed (EX_UNAVAILABLE)."""

    exit_code = 69


class UnfitError(DemeshError):
    """A library here gives other answers than everywhere else (EX_SOFTWARE)."""

    exit_code = 70


class FaultError(DemeshError):
    """A fault of our own where an exit code has to tell of it (EX_SOFTWARE)."""

    exit_code = 70


class RefusedError(DemeshError):
    """The mesh does not take what is asked of it (EX_PROTOCOL)."""

    exit_code = 76


class ProofError(DemeshError):
    """A proof does not hold or cannot be made (EX_DATAERR)."""

    exit_code = 65


class InputError(DemeshError):
    """A word of the command line, or a file it names, is not what was expected (EX_DATAERR)."""

    exit_code = 65
