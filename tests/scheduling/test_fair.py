"""The scheduler: whom the next tick advances."""

from __future__ import annotations

from service.scheduling.fair import FairScheduler
from service.scheduling.jobs import ImageTask, Job
from service.scheduling.row_limit import RECOVERY_TICKS
from tests.support.jobs import job, step

GUIDED = [2, 2, 2]
PLAIN = [1, 1, 1]
EXACT = 1e-9
"""A band so narrow that nobody is anybody's equal."""


def fair(
    max_rows: int, *jobs: Job, slots: int | None = None, band: float | None = None
) -> FairScheduler:
    scheduler = FairScheduler(max_rows, 4 * max_rows if slots is None else slots, band)
    for each in jobs:
        scheduler.add(each)
    return scheduler


def names(samples: list[ImageTask]) -> list[str]:
    return [f"{sample.job.id}{sample.index}" for sample in samples]


def ends(scheduler: FairScheduler) -> list[str]:
    """The jobs in the order in which they end."""
    order = []
    while scheduler.jobs():
        jobs = list(scheduler.jobs())
        assert step(scheduler), "somebody is in and nothing is done"
        order += [each.id for each in jobs if each not in scheduler.jobs()]
    return order


def test_a_tick_takes_images_until_its_rows_are_used_up() -> None:
    scheduler = fair(5, job("a", GUIDED, GUIDED, GUIDED), job("b", PLAIN, admitted=1))
    assert names(step(scheduler)) == ["b0", "a0", "a1"]


def test_asking_changes_nothing() -> None:
    scheduler = fair(4, job("a", GUIDED), job("b", GUIDED, GUIDED))
    assert names(scheduler.pick()) == names(scheduler.pick()) == names(step(scheduler))


def test_a_row_goes_to_whoever_fits_it_rather_than_to_nobody() -> None:
    scheduler = fair(
        3, job("a", GUIDED), job("b", GUIDED, admitted=1), job("c", [1] * 9, admitted=2)
    )
    assert names(scheduler.pick()) == ["a0", "c0"]


def test_an_image_takes_the_rows_of_its_next_step_no_more() -> None:
    scheduler = fair(3, job("a", [1, 2, 1]), job("b", [1, 2, 2]))
    assert [names(step(scheduler)) for _ in range(4)] == [
        ["a0", "b0"],
        ["a0"],
        ["a0", "b0"],
        ["b0"],
    ]


def test_a_small_request_goes_before_the_rest_of_a_large_one() -> None:
    scheduler = fair(8, job("big", *[[2] * 100] * 16))
    step(scheduler)
    small = job("small", GUIDED, admitted=1)
    scheduler.add(small)
    assert names(step(scheduler)) == ["small0", "big0", "big1", "big2"]


def test_images_set_aside_go_on_where_they_were() -> None:
    big = job("big", [2] * 100)
    scheduler = fair(2, big)
    step(scheduler)
    scheduler.add(job("small", GUIDED, admitted=1))
    assert [names(step(scheduler)) for _ in range(4)] == [["small0"]] * 3 + [["big0"]]
    (sample,) = scheduler.drop(big)
    assert sample.steps_done == 2


def test_equals_come_out_one_after_the_other_and_in_order() -> None:
    scheduler = fair(2, *[job(name, [2] * 9, admitted=i) for i, name in enumerate("abc")])
    assert [names(step(scheduler)) for _ in range(27)] == [["a0"]] * 9 + [["b0"]] * 9 + [["c0"]] * 9


def test_small_requests_one_after_the_other_do_not_shut_out_a_large_one() -> None:
    scheduler = fair(2, job("large", [2] * 50, client="large"), band=EXACT)
    ticks = 0
    while "large" in {each.id for each in scheduler.jobs()}:
        if len(scheduler.jobs()) == 1:  # the answer before has come
            scheduler.add(job("small", [2], admitted=ticks, client="small"))
        step(scheduler)
        ticks += 1
        assert ticks <= 100  # half of them were its own


def test_among_equals_the_earliest_deadline_goes_first_then_the_shortest_then_the_first() -> None:
    by_deadline = fair(2, job("late", GUIDED, deadline=9), job("early", [2] * 4, deadline=5))
    assert ends(by_deadline) == ["early", "late"]
    by_work = fair(2, job("long", [2] * 7), job("short", [2], admitted=1))
    assert ends(by_work) == ["short", "long"]
    by_arrival = fair(2, job("second", GUIDED, admitted=1), job("first", GUIDED))
    assert ends(by_arrival) == ["first", "second"]


def test_an_early_deadline_does_not_pass_those_whom_sharing_ends_much_earlier() -> None:
    scheduler = fair(2, job("hurried", [2] * 50, deadline=1), job("short", GUIDED))
    assert ends(scheduler) == ["short", "hurried"]


def test_a_clients_many_requests_count_less_than_anothers_one() -> None:
    many = [job(f"many{i}", [2] * 20, client="a", admitted=i) for i in range(10)]
    scheduler = fair(2, *many, job("one", [2] * 20, client="b", admitted=10), band=EXACT)
    assert ends(scheduler)[:3] == ["many0", "one", "many1"]


def test_what_a_client_has_had_is_not_held_against_it() -> None:
    scheduler = fair(2, job("a1", [2] * 20, client="a"), band=EXACT)
    ends(scheduler)
    scheduler.add(job("a2", [2] * 20, client="a"))
    scheduler.add(job("b", [2] * 21, client="b", admitted=1))
    assert ends(scheduler) == ["a2", "b"]


def test_sharing_that_was_cut_short_ends_with_the_last_request() -> None:
    """Sharing gave the dropped request work that "a1" had in truth, and would owe "a1" still."""
    gone = job("gone", [2] * 100, client="b")
    scheduler = fair(2, job("a1", [2] * 20, client="a"), gone, band=EXACT)
    for _ in range(19):
        step(scheduler)
    scheduler.drop(gone)
    assert ends(scheduler) == ["a1"]
    scheduler.add(job("a2", [2] * 20, client="a"))
    scheduler.add(job("b", [2] * 21, client="b", admitted=1))
    assert ends(scheduler) == ["a2", "b"]


def test_without_a_free_slot_only_images_in_flight_go_on() -> None:
    scheduler = fair(4, job("a", [2] * 9, [2] * 9), slots=2)
    step(scheduler)
    scheduler.add(job("small", GUIDED, admitted=1))
    assert names(step(scheduler)) == ["a0", "a1"]
    assert ends(scheduler) == ["a", "small"]


def test_a_dropped_request_leaves_nothing_behind() -> None:
    gone, stays = job("gone", GUIDED, GUIDED, deadline=1), job("stays", GUIDED)
    scheduler = fair(2, gone, stays)
    assert names(step(scheduler)) == ["gone0"]
    assert [sample.index for sample in scheduler.drop(gone)] == [0, 1]
    assert list(scheduler.jobs()) == [stays]
    assert (scheduler.running, scheduler.waiting) == (0, 1)
    assert names(step(scheduler)) == ["stays0"]


def test_a_request_dropped_before_it_began_is_ahead_of_nobody() -> None:
    jobs = [job(name, GUIDED, admitted=i) for i, name in enumerate("abc")]
    scheduler = fair(2, *jobs)
    step(scheduler)
    assert scheduler.ahead_of(jobs[2]) == 1
    scheduler.drop(jobs[1])
    assert scheduler.ahead_of(jobs[2]) == 0
    assert (scheduler.running, scheduler.waiting) == (1, 1)


def test_work_that_left_slows_nobody_down() -> None:
    """With the dropped request gone, those who stay share the device alone."""
    scheduler = fair(2, job("stays", [2] * 20, client="a"), band=EXACT)
    gone = job("gone", *[[2] * 1000] * 16, client="b")
    scheduler.add(gone)
    scheduler.drop(gone)
    for _ in range(10):
        step(scheduler)  # "stays" has had a half of its work, were it not alone a quarter
    scheduler.add(job("new", [2] * 11, client="c"))
    assert ends(scheduler) == ["stays", "new"]


def test_requests_are_running_once_an_image_is_in_flight_also_set_aside() -> None:
    scheduler = fair(2, job("big", [2] * 100))
    assert (scheduler.running, scheduler.waiting) == (0, 1)
    step(scheduler)
    scheduler.add(job("small", GUIDED))
    step(scheduler)
    assert (scheduler.running, scheduler.waiting) == (2, 0)
    ends(scheduler)
    assert (scheduler.running, scheduler.waiting) == (0, 0)


def test_ahead_are_those_who_wait_and_go_before() -> None:
    jobs = [job(str(i), GUIDED, admitted=i) for i in range(4)]
    scheduler = fair(2, *jobs)
    step(scheduler)
    assert [scheduler.ahead_of(each) for each in jobs[1:]] == [0, 1, 2]
    early = job("early", GUIDED, deadline=1)
    scheduler.add(early)
    assert scheduler.ahead_of(early) == 0
    assert scheduler.ahead_of(jobs[3]) == 3


def test_after_an_out_of_memory_ticks_are_smaller_until_enough_went_well() -> None:
    scheduler = fair(16, job("a", *[[2] * 1000] * 16))
    scheduler.shrink(16)
    scheduler.shrink(8)
    assert scheduler.row_limit == 4
    assert len(scheduler.pick()) == 2
    for _ in range(RECOVERY_TICKS):
        assert scheduler.row_limit == 4
        step(scheduler)
    assert scheduler.row_limit == 8
    for _ in range(2 * RECOVERY_TICKS):
        step(scheduler)
    assert scheduler.row_limit == 16


def test_a_guided_image_always_fits() -> None:
    scheduler = fair(16, job("a", GUIDED))
    scheduler.shrink(1)
    assert scheduler.row_limit == 2
    assert names(scheduler.pick()) == ["a0"]


def test_ticks_that_are_not_full_prove_nothing() -> None:
    scheduler = fair(16, job("a", *[[2] * 1000] * 2))
    scheduler.shrink(16)
    for _ in range(2 * RECOVERY_TICKS):
        step(scheduler)
    assert scheduler.row_limit == 8
