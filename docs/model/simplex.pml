/*
 * The voting rules of Simplex, R-CON-1 to R-CON-5 of docs/protocol.md: four voters, some of them
 * Byzantine, and the first two views after a tip. `make model` runs it, README.md says what it shows and
 * what it leaves out.
 *
 * Theory of operation. A vote is multicast and never taken back, so the network is the set of votes
 * cast so far: one bit field per voter that only grows. Who has received what is left open: a rule may
 * fire as soon as the votes it needs were cast, or any time later, or never. That is allowed because no
 * rule asks for the absence of somebody else's vote, only for the absence of one's own.
 *
 * For the same reason a Byzantine voter that has said everything from the start, to everybody, can do
 * all that a choosier one can: NOTARIZE and FINALIZE for every block, and NULLIFY. -DSTEPWISE lets it
 * cast these votes one by one instead, in any order; -DSILENT lets it say nothing.
 *
 * Patience (R-CON-6) may end at any moment, so the other causes of NULLIFY in R-CON-5 add nothing.
 */

#ifdef TWO_BYZANTINE /* mutant: 2 of 4 is more than f */
#define BYZANTINE 2
#else
#define BYZANTINE 1
#endif

#ifdef QUORUM_ONE_SHORT /* mutant */
#define QUORUM 2
#else
#define QUORUM 3 /* floor(2W/3) + 1 */
#endif

#define VOTERS 4
#define HONEST (VOTERS - BYZANTINE) /* voters 0 to HONEST - 1; the last voters are Byzantine */
#define TRAITOR (VOTERS - 1)

#define bit(n) (1 << (n))

/* -- blocks ---------------------------------------------------------------------------------------
 *
 * Every view has two blocks for every parent that can be named: the tip (0) and all blocks of earlier
 * views, notarized or not. The columns: view, block, parent, view of the parent, ancestors above the tip.
 */

#ifdef NO_TWINS /* one block for every parent */
#define TWINS(RULE, v, b, p, pv, chain) RULE(v, b, p, pv, chain)
#define OF_TWINS(rows)
#else
#define TWINS(RULE, v, b, p, pv, chain) RULE(v, b, p, pv, chain) RULE(v, (b + 1), p, pv, chain)
#define OF_TWINS(rows) rows
#endif

#define FIRST_VIEW(RULE) TWINS(RULE, 1, 1, 0, 0, 0)

#define SECOND_VIEW(RULE) \
	TWINS(RULE, 2, 3, 0, 0, 0) \
	TWINS(RULE, 2, 5, 1, 1, bit(1)) \
	OF_TWINS(TWINS(RULE, 2, 7, 2, 1, bit(2)))

#define BLOCKS(RULE) FIRST_VIEW(RULE) SECOND_VIEW(RULE)
#define EACH_VIEW(RULE) RULE(1) RULE(2)

/* The blocks of a view as bits. */
#define OF_1 (bit(3) - bit(1))
#define OF_2 (bit(9) - bit(3))
#define blocks_of(v) OF_##v

/* -- what was said, and what that certifies ------------------------------------------------------- */

short notarize[VOTERS], finalize[VOTERS]; /* a bit for each block */
byte nullify[VOTERS];                    /* a bit for each view */

/* Certificates follow from the votes: quorum weight for identical bytes. */
short notarized, finalized;
byte nullified;

byte view[HONEST] = 1; /* where an honest voter is; 1 is the first view after the tip */
byte leader[3];        /* by view, from 1 */

#define weight(said, n) \
	(((said[0] >> n) & 1) + ((said[1] >> n) & 1) + ((said[2] >> n) & 1) + ((said[3] >> n) & 1))

#define say(said, n, certificates) \
	said[me] = said[me] | bit(n); \
	certificates = certificates | ((weight(said, n) >= QUORUM) << n)

/* -- what must hold after every vote --------------------------------------------------------------
 *
 * -DGOAL=... asks whether something can be reached, by denying it. -DFORKS looks for nothing but forks,
 * so that a mutant counts as killed only when honest voters hold contradicting ledgers.
 */

#define one(blocks) (((blocks) & ((blocks) - 1)) == 0)

#define FINAL_IN_VIEW_1 (finalized & bit(1))
#define FINAL_IN_VIEW_2_ON_VIEW_1 (finalized & bit(5))
#define FINAL_IN_VIEW_2_ON_TIP ((finalized & bit(3)) && (nullified & bit(1)))
#define FINAL_ON_A_NULLIFIED_VIEW ((finalized & bit(5)) && (nullified & bit(1)))

#ifdef GOAL
#define promise(what) assert(!(GOAL))
#define no_fork() assert(!(GOAL))
#else
#ifdef FORKS
#define promise(what) skip
#else
#define promise(what) assert(what)
#endif

/* Prefix agreement. Numbers grow with the view, so all final blocks below b are ancestors of b. */
#define ON_ONE_CHAIN(v, b, p, pv, chain) \
	&& (!(finalized & bit(b)) || !(finalized & (bit(b) - 1) & ~(chain)))
inline no_fork() { assert(true BLOCKS(ON_ONE_CHAIN)) }
#endif

#define one_notarized(v) promise(one(notarized & blocks_of(v)))
#define not_final_and_skipped(v) promise(!(finalized & blocks_of(v)) || !(nullified & bit(v)))
#define notarizes_once(v) promise(one(notarize[me] & blocks_of(v)))
#define never_finalizes_and_nullifies(v) promise(!(finalize[me] & blocks_of(v)) || !(nullify[me] & bit(v)))

/* -- the rules of an honest voter `me` ------------------------------------------------------------ */

#define certified(v) \
	((nullified & bit(v)) || ((notarized | finalized) & blocks_of(v)))

#ifdef ANY_VIEW /* variant: a voter acts in every view at once */
#define here(v) true
#else
#define here(v) (view[me] == v)
#endif

/* R-CON-1: on any certificate for its view or a later one, to the view after it. */
#define ENTER(v) \
	:: d_step { \
		view[me] <= v && certified(v) -> view[me] = v + 1; \
		printf("voter %d enters view %d\n", me, v + 1) \
	}

/* R-CON-2: the leader proposes if it said nothing in this view. A proposal is the leader's NOTARIZE:
 * a traitor may propose several; an honest leader one, by the rule that follows, and so only what
 * R-CON-3 takes. (Its parent is the highest it knows of; what it knows is open.) */
#define proposed(v, b) (leader[v] == me || (notarize[leader[v]] & bit(b)))

#ifdef NO_PARENT_CHECK /* mutant */
#define parent_good(p) true
#else
#define parent_good(p) (p == 0 || ((notarized | finalized) & bit(p)))
#endif

#ifdef NO_SKIP_CHECK /* mutant */
#define skipped(pv, v) true
#else
#define skipped(pv, v) (pv + 1 == v || (nullified & bit(1))) /* of two views only the first */
#endif

#ifdef NOTARIZE_TWICE /* mutant */
#define not_yet(v, b) (!(notarize[me] & bit(b)))
#else
#define not_yet(v, b) (!(notarize[me] & blocks_of(v)))
#endif

#ifdef NOTARIZE_AFTER_NULLIFY /* variant */
#define patient(v) true
#else
#define patient(v) (!(nullify[me] & bit(v)))
#endif

/* Twins are interchangeable: the second one is taken by somebody only after the first one was. */
#define in_order(b) ((b) % 2 == 1 || ((notarize[0] | notarize[1] | notarize[HONEST - 1]) & bit(b - 1)))

/* R-CON-3: a proposal of the current view's leader, once, not after NULLIFY; the parent is certified
 * and all views between are nullified. */
#define NOTARIZE(v, b, p, pv, chain) \
	:: d_step { \
		here(v) && not_yet(v, b) && patient(v) && proposed(v, b) \
		&& in_order(b) && parent_good(p) && skipped(pv, v) -> \
		say(notarize, b, notarized); \
		printf("voter %d NOTARIZE(view %d, block %d on %d)\n", me, v, b, p); \
		one_notarized(v); notarizes_once(v) \
	}

#ifdef FINALIZE_UNVOTED /* variant */
#define mine(b) true
#else
#define mine(b) (notarize[me] & bit(b))
#endif

#ifdef FINALIZE_UNSEEN /* variant */
#define seen(b) true
#else
#define seen(b) (notarized & bit(b))
#endif

#ifdef FINALIZE_AFTER_NULLIFY /* mutant */
#define not_skipping(v) true
#else
#define not_skipping(v) (!(nullify[me] & bit(v)))
#endif

#ifdef ENTER_FIRST /* variant: who holds a certificate of its view has left it */
#define left(v) (view[me] > v)
#else
#define left(v) true
#endif

/* R-CON-4: what it notarized, once that is notarized, unless it said NULLIFY; also in a view it left. */
#define FINALIZE(v, b, p, pv, chain) \
	:: d_step { \
		!(finalize[me] & blocks_of(v)) && mine(b) && seen(b) \
		&& not_skipping(v) && left(v) -> \
		say(finalize, b, finalized); \
		printf("voter %d FINALIZE(view %d, block %d)\n", me, v, b); \
		no_fork(); not_final_and_skipped(v); never_finalizes_and_nullifies(v) \
	}

#ifdef NULLIFY_AFTER_FINALIZE /* mutant */
#define not_finalizing(v) true
#else
#define not_finalizing(v) (!(finalize[me] & blocks_of(v)))
#endif

/* R-CON-5: the current view, unless it said FINALIZE there. */
#define NULLIFY(v) \
	:: d_step { \
		here(v) && !(nullify[me] & bit(v)) && not_finalizing(v) -> \
		say(nullify, v, nullified); \
		printf("voter %d NULLIFY(view %d)\n", me, v); \
		not_final_and_skipped(v); never_finalizes_and_nullifies(v) \
	}

/* -- who is there --------------------------------------------------------------------------------- */

proctype honest(byte me)
{
end:
	do
	EACH_VIEW(ENTER)
	BLOCKS(NOTARIZE)
	BLOCKS(FINALIZE)
	EACH_VIEW(NULLIFY)
	od
}

#define ANY_NOTARIZE(v, b, p, pv, chain) \
	:: d_step { !(notarize[me] & bit(b)) -> say(notarize, b, notarized); one_notarized(v) }
#define ANY_FINALIZE(v, b, p, pv, chain) \
	:: d_step { !(finalize[me] & bit(b)) -> say(finalize, b, finalized); no_fork(); not_final_and_skipped(v) }
#define ANY_NULLIFY(v) \
	:: d_step { !(nullify[me] & bit(v)) -> say(nullify, v, nullified); not_final_and_skipped(v) }

proctype traitor(byte me)
{
end:
	do
	BLOCKS(ANY_NOTARIZE)
	BLOCKS(ANY_FINALIZE)
	EACH_VIEW(ANY_NULLIFY)
	od
}

/* Honest voters are interchangeable, so the leaders of the views are a traitor, an earlier leader, or
 * the next honest voter. */
init
{
	atomic {
#ifndef SILENT
		if :: leader[1] = TRAITOR :: leader[1] = 0 fi;
		if :: leader[2] = TRAITOR :: leader[2] = 0 :: leader[2] = 1 fi;
#ifdef STEPWISE
		run traitor(TRAITOR);
#else
		notarize[TRAITOR] = ~0; finalize[TRAITOR] = ~0; nullify[TRAITOR] = 255;
#ifdef TWO_BYZANTINE
		notarize[2] = ~0; finalize[2] = ~0; nullify[2] = 255;
#endif
#endif
#endif
		run honest(0);
		run honest(1);
#ifndef TWO_BYZANTINE
		run honest(2);
#endif
	}
}
