"""A campaign that tries to break consensus: voters, weather, liars, checkers and mutants.

signing        who signs: keyed hashes, declared as such, or Ed25519 for a share of the seeds
ledger         the application that is agreed on, and who votes by it
disk           a voter's journal and blocks, and what a power cut takes of them
arena          voters on one heap, their turns, crashes and restarts
weather        what the network, the disks and the clocks do, and the faults that come
adversaries    voters that break the rules, one class each
history        what the whole mesh said: blocks, rolls of voters, quorums; with code of its own
checkers       what must hold of votes, certificates, blocks and epochs
conduct        what must hold of each voter: recall, quarantine, evidence, memory
plan           what a seed means: voters, who is faulty, weather, changes of the voters
owners         who asks for the changes, and gives a new key for one that was given up
season         one run of a plan, from the first op to silence
mutants        deliberate faults in the code under test, each of which a season must notice
epoch_mutants  those of how one epoch follows another
transcript     one run for people
series         many seeds on some processes, and their figures
"""
