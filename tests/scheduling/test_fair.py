"""FairScheduler: which images the next tick advances."""

from __future__ import annotations

from service.scheduling.fair import FairScheduler
from service.scheduling.jobs import ImageTask, Job
from service.scheduling.row_limit import RECOVERY_TICKS
from tests.support.jobs import job, step

GUIDED = [2, 2, 2]
PLAIN = [1, 1, 1]
EXACT = 1e-9
"""A band so narrow that no two jobs count as equal."""


def fair(max_rows: int, *jobs: Job, band: float | None = None) -> FairScheduler:
    scheduler = FairScheduler(max_rows, band)
    for each in jobs:
        scheduler.add(each)
    return scheduler


def names(tasks: list[ImageTask]) -> list[str]:
    return [f"{task.job.id}{task.index}" for task in tasks]


def ends(scheduler: FairScheduler) -> list[str]:
    """The jobs in the order in which they end."""
    order = []
    while scheduler.jobs():
        jobs = list(scheduler.jobs())
        assert step(scheduler), "jobs are left and nothing is picked"
        order += [each.id for each in jobs if each not in scheduler.jobs()]
    return order


def test_a_tick_takes_images_until_its_rows_are_used_up() -> None:
    scheduler = fair(5, job("a", GUIDED, GUIDED, GUIDED), job("b", PLAIN, admitted=1))
    assert names(step(scheduler)) == ["b0", "a0", "a1"]


def test_pick_changes_nothing() -> None:
    scheduler = fair(4, job("a", GUIDED), job("b", GUIDED, GUIDED))
    assert names(scheduler.pick()) == names(scheduler.pick()) == names(step(scheduler))


def test_a_leftover_row_goes_to_the_next_image_that_fits() -> None:
    scheduler = fair(
        3, job("a", GUIDED), job("b", GUIDED, admitted=1), job("c", [1] * 9, admitted=2)
    )
    assert names(scheduler.pick()) == ["a0", "c0"]


def test_an_image_takes_only_the_rows_of_its_next_step() -> None:
    scheduler = fair(3, job("a", [1, 2, 1]), job("b", [1, 2, 2]))
    assert [names(step(scheduler)) for _ in range(4)] == [
        ["a0", "b0"],
        ["a0"],
        ["a0", "b0"],
        ["b0"],
    ]


def test_a_small_request_overtakes_a_large_one() -> None:
    scheduler = fair(8, job("big", *[[2] * 100] * 16))
    step(scheduler)
    small = job("small", GUIDED, admitted=1)
    scheduler.add(small)
    assert names(step(scheduler)) == ["small0", "big0", "big1", "big2"]


def test_images_set_aside_resume_where_they_stopped() -> None:
    big = job("big", [2] * 100)
    scheduler = fair(2, big)
    step(scheduler)
    scheduler.add(job("small", GUIDED, admitted=1))
    assert [names(step(scheduler)) for _ in range(4)] == [["small0"]] * 3 + [["big0"]]
    (task,) = scheduler.drop(big)
    assert task.steps_done == 2


def test_equal_jobs_finish_one_after_the_other_in_order() -> None:
    scheduler = fair(2, *[job(name, [2] * 9, admitted=i) for i, name in enumerate("abc")])
    assert [names(step(scheduler)) for _ in range(27)] == [["a0"]] * 9 + [["b0"]] * 9 + [["c0"]] * 9


def test_a_sequence_of_small_requests_does_not_starve_a_large_one() -> None:
    scheduler = fair(2, job("large", [2] * 50, client="large"), band=EXACT)
    ticks = 0
    while "large" in {each.id for each in scheduler.jobs()}:
        if len(scheduler.jobs()) == 1:  # the previous one is answered
            scheduler.add(job("small", [2], admitted=ticks, client="small"))
        step(scheduler)
        ticks += 1
        assert ticks <= 100  # half of them were for the large one


def test_equal_jobs_go_by_deadline_then_by_work_then_by_arrival() -> None:
    by_deadline = fair(2, job("late", GUIDED, deadline=9), job("early", [2] * 4, deadline=5))
    assert ends(by_deadline) == ["early", "late"]
    by_work = fair(2, job("long", [2] * 7), job("short", [2], admitted=1))
    assert ends(by_work) == ["short", "long"]
    by_arrival = fair(2, job("second", GUIDED, admitted=1), job("first", GUIDED))
    assert ends(by_arrival) == ["first", "second"]


def test_an_early_deadline_does_not_overtake_a_job_that_sharing_ends_much_earlier() -> None:
    scheduler = fair(2, job("hurried", [2] * 50, deadline=1), job("short", GUIDED))
    assert ends(scheduler) == ["short", "hurried"]


def test_a_clients_many_requests_weigh_less_than_anothers_single_one() -> None:
    many = [job(f"many{i}", [2] * 20, client="a", admitted=i) for i in range(10)]
    scheduler = fair(2, *many, job("one", [2] * 20, client="b", admitted=10), band=EXACT)
    assert ends(scheduler)[:3] == ["many0", "one", "many1"]


def test_past_work_does_not_count_against_a_client() -> None:
    scheduler = fair(2, job("a1", [2] * 20, client="a"), band=EXACT)
    ends(scheduler)
    scheduler.add(job("a2", [2] * 20, client="a"))
    scheduler.add(job("b", [2] * 21, client="b", admitted=1))
    assert ends(scheduler) == ["a2", "b"]


def test_sharing_starts_over_when_the_last_request_ends() -> None:
    """Sharing has not finished "a1" when it really ends; "a2" must not count as concurrent with it."""
    gone = job("gone", [2] * 100, client="b")
    scheduler = fair(2, job("a1", [2] * 20, client="a"), gone, band=EXACT)
    for _ in range(19):
        step(scheduler)
    scheduler.drop(gone)
    assert ends(scheduler) == ["a1"]
    scheduler.add(job("a2", [2] * 20, client="a"))
    scheduler.add(job("b", [2] * 21, client="b", admitted=1))
    assert ends(scheduler) == ["a2", "b"]


def test_images_set_aside_keep_nobody_from_starting() -> None:
    """Each request of one client overtakes the one before, and all are in flight at last."""
    scheduler = fair(32)
    for sent, steps in enumerate((1000, 470, 300, 215, 165, 132, 108, 90, 70, 50)):
        scheduler.add(job(f"{steps}", *[[2] * steps] * 16, client="greedy", admitted=sent))
        for _ in range(2):
            step(scheduler)
    scheduler.add(job("newcomer", [2], client="modest", admitted=10))
    assert names(scheduler.pick())[0] == "newcomer0"


def test_a_dropped_request_leaves_nothing_behind() -> None:
    gone, stays = job("gone", GUIDED, GUIDED, deadline=1), job("stays", GUIDED)
    scheduler = fair(2, gone, stays)
    assert names(step(scheduler)) == ["gone0"]
    assert [task.index for task in scheduler.drop(gone)] == [0, 1]
    assert list(scheduler.jobs()) == [stays]
    assert (scheduler.running, scheduler.waiting) == (0, 1)
    assert names(step(scheduler)) == ["stays0"]


def test_a_request_dropped_while_waiting_no_longer_counts_as_ahead() -> None:
    jobs = [job(name, GUIDED, admitted=i) for i, name in enumerate("abc")]
    scheduler = fair(2, *jobs)
    step(scheduler)
    assert scheduler.ahead_of(jobs[2]) == 1
    scheduler.drop(jobs[1])
    assert scheduler.ahead_of(jobs[2]) == 0
    assert (scheduler.running, scheduler.waiting) == (1, 1)


def test_dropped_work_does_not_slow_down_the_others() -> None:
    """Sharing gives the work of a dropped request to those that remain."""
    scheduler = fair(2, job("stays", [2] * 20, client="a"), band=EXACT)
    gone = job("gone", *[[2] * 1000] * 16, client="b")
    scheduler.add(gone)
    scheduler.drop(gone)
    for _ in range(10):
        step(scheduler)  # half of the work of "stays"; shared with "gone" it would be a quarter
    scheduler.add(job("new", [2] * 11, client="c"))
    assert ends(scheduler) == ["stays", "new"]


def test_requests_count_as_running_while_an_image_is_in_flight_or_set_aside() -> None:
    scheduler = fair(2, job("big", [2] * 100))
    assert (scheduler.running, scheduler.waiting) == (0, 1)
    step(scheduler)
    scheduler.add(job("small", GUIDED))
    step(scheduler)
    assert (scheduler.running, scheduler.waiting) == (2, 0)
    ends(scheduler)
    assert (scheduler.running, scheduler.waiting) == (0, 0)


def test_ahead_of_counts_the_waiting_requests_that_go_first() -> None:
    jobs = [job(str(i), GUIDED, admitted=i) for i in range(4)]
    scheduler = fair(2, *jobs)
    step(scheduler)
    assert [scheduler.ahead_of(each) for each in jobs[1:]] == [0, 1, 2]
    early = job("early", GUIDED, deadline=1)
    scheduler.add(early)
    assert scheduler.ahead_of(early) == 0
    assert scheduler.ahead_of(jobs[3]) == 3


def test_after_an_out_of_memory_ticks_are_smaller_until_enough_succeed() -> None:
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


def test_ticks_that_are_not_full_do_not_raise_the_limit() -> None:
    scheduler = fair(16, job("a", *[[2] * 1000] * 2))
    scheduler.shrink(16)
    for _ in range(2 * RECOVERY_TICKS):
        step(scheduler)
    assert scheduler.row_limit == 8


def test_previews_count_as_work_of_their_job() -> None:
    """Two equal jobs of two clients, but one has every step shown."""
    shown, plain = job("shown", [2] * 20), job("plain", [2] * 20, admitted=1)
    shown.preview_every, shown.preview_row_steps = 1, 8
    shown.on_progress = lambda progress: None
    assert ends(fair(2, shown, plain, band=EXACT)) == ["plain", "shown"]


def test_previews_that_were_not_made_are_not_charged() -> None:
    shown = job("shown", [2] * 20, client="a")
    shown.preview_every, shown.preview_row_steps = 1, 10
    shown.on_progress = lambda progress: None
    scheduler = fair(2, shown, job("other", [2] * 300, client="c"), band=EXACT)
    for _ in range(50):
        step(scheduler)
    assert shown not in scheduler.jobs()
    scheduler.add(job("next", [2] * 20, client="a"))
    scheduler.add(job("late", [2] * 30, client="b", admitted=1))
    assert ends(scheduler)[0] == "next"
