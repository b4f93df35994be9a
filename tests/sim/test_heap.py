"""The virtual clock and its heap."""

from demesh_sim.heap import Alarm, Heap


def test_actions_due_at_one_instant_run_in_the_order_they_were_put_in() -> None:
    heap, ran = Heap(), []
    for name in "abc":
        heap.at(5, lambda name=name: ran.append(name))
    heap.at(4, lambda: ran.append("first"))
    heap.run(10)
    assert ran == ["first", "a", "b", "c"]
    assert heap.now == 10


def test_an_action_in_the_past_runs_now_and_time_never_goes_back() -> None:
    heap, seen = Heap(now=100), []
    heap.at(7, lambda: seen.append(heap.now))
    heap.run(50)
    assert seen == []  # nothing before 100 is run
    heap.run(100)
    assert seen == [100]


def test_what_is_put_in_during_an_action_for_the_same_instant_still_runs() -> None:
    heap, ran = Heap(), []
    heap.at(3, lambda: heap.at(3, lambda: ran.append(heap.now)))
    heap.run(3)
    assert ran == [3]


def test_nothing_after_the_end_runs_and_it_is_still_there_afterwards() -> None:
    heap, ran = Heap(), []
    heap.at(11, lambda: ran.append(heap.now))
    heap.run(10)
    assert ran == [] and heap.next_at() == 11
    heap.run(11)
    assert ran == [11]


def test_an_alarm_that_is_pushed_back_rings_once_at_the_last_instant_set() -> None:
    heap, rang = Heap(), []
    alarm = Alarm(heap, lambda: rang.append(heap.now))
    for due in range(10, 60, 10):
        alarm.set(due)
    assert len(heap) == 1
    heap.run(100)
    assert rang == [50]


def test_an_alarm_that_is_brought_forward_rings_early_and_only_once() -> None:
    heap, rang = Heap(), []
    alarm = Alarm(heap, lambda: rang.append(heap.now))
    alarm.set(50)
    alarm.set(20)
    heap.run(100)
    assert rang == [20]


def test_an_alarm_that_was_switched_off_never_rings_and_can_be_set_again() -> None:
    heap, rang = Heap(), []
    alarm = Alarm(heap, lambda: rang.append(heap.now))
    alarm.set(10)
    alarm.set(None)
    heap.run(20)
    assert rang == []
    alarm.set(30)
    heap.run(40)
    assert rang == [30]


def test_an_alarm_set_while_it_rings_rings_again() -> None:
    heap, rang = Heap(), []

    def ring() -> None:
        rang.append(heap.now)
        if heap.now < 30:
            alarm.set(heap.now + 10)

    alarm = Alarm(heap, ring)
    alarm.set(10)
    heap.run(100)
    assert rang == [10, 20, 30]
