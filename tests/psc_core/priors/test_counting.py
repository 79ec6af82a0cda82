"""Calls are counted once for all, and apart for each run, whatever other threads do."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import psc_core
from psc_core.priors.gaussian import GaussianPrior
from tests.psc_core.photographs import photograph

THREADS = 4
SMALL = psc_core.get_profile("archive", tiers=2, canvas=32, window=16)


class Meeting(GaussianPrior):
    """Denoises in all threads at once: no run ends before another has begun."""

    meeting = Barrier(THREADS)

    def _denoise(self, x, sigma):
        self.meeting.wait(timeout=60)
        return super()._denoise(x, sigma)


def test_a_report_counts_its_own_run():
    prior, images = Meeting(), [photograph("coffee", 20 + k, 12) for k in range(THREADS)]
    alone = [psc_core.encode(image, GaussianPrior(), SMALL) for image in images]
    with ThreadPoolExecutor(THREADS) as pool:
        together = list(pool.map(lambda image: psc_core.encode(image, prior, SMALL), images))
    assert [s.report.nfe for s in together] == [s.report.nfe for s in alone] == [6 * 5] * THREADS
    assert prior.nfe == THREADS * 6 * 5
    assert [s.tiers for s in together] == [s.tiers for s in alone]


def test_no_call_is_lost_between_threads():
    prior, often = GaussianPrior(), 4000
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(THREADS) as pool:
            views = [prior.counting() for _ in range(THREADS)]
            list(pool.map(lambda view: [view.count(2) for _ in range(often)], views))
    finally:
        sys.setswitchinterval(before)
    assert prior.nfe == 2 * often * THREADS
    assert [view.own_nfe for view in views] == [2 * often] * THREADS


def test_views_of_a_run_count_with_it():
    prior = GaussianPrior()
    prior.condition_kind = "label"
    run = prior.counting()
    run.conditioned(3).count(5)
    prior.count(1)
    assert (run.own_nfe, prior.own_nfe, prior.nfe, run.nfe) == (5, 0, 6, 6)
    assert run.counting().own_nfe == 0
