"""A campaign that tries to break consensus: voters, weather, liars, checkers and mutants.

signing      who signs: keyed hashes, declared as such, or Ed25519 for a share of the seeds
ledger       the application that is agreed on
disk         a voter's journal and blocks, and what a power cut takes of them
arena        voters on one heap, their turns, crashes and restarts
weather      what the network, the disks and the clocks do, and the faults that come
adversaries  voters that break the rules, one class each
checkers     what must hold of votes, certificates and blocks, with code of its own
conduct      what must hold of each voter: recall, quarantine, evidence, memory
season       what a seed means: one run from the first op to silence
mutants      deliberate faults in the code under test, each of which a season must notice
transcript   one run for people
series       many seeds on some processes, and their figures
"""
