import pytest

from edgedense.validate import ValidateOptions, plan, validate


class Heard:
    """A progress that remembers what was said before anything was tracked."""

    def __init__(self):
        self.before, self.running = [], False

    def say(self, line):
        if not self.running:
            self.before.append(line.strip())

    def track(self, items, label, total=None):
        self.running = True
        yield from items


@pytest.fixture
def hear(make_set, table_runner, preprocess, paired_logits):
    def hear(n, options=None, labelled=True, reference=True):
        labels, expected, engine = paired_logits(n, 0, 0)
        heard = Heard()
        report = validate(
            table_runner(engine, "e"),
            make_set(labels if labelled else None, n),
            preprocess,
            table_runner(expected, "r") if reference else None,
            options,
            progress=heard,
        )
        return heard.before, report

    return hear


def test_it_is_said_before_running_what_the_set_can_show(hear):
    (said,), report = hear(400)
    assert said == (
        "400 images can exclude drops above 0.95 pp at best (no answer differs), "
        "1.4 pp at 1 % discordant, 2.4 pp at 5 % discordant; asked: 1 pp."
    )
    assert report.to_dict()["plan"]["can_pass"] is True


@pytest.mark.parametrize("n", [50, 380, 381, 500])
def test_a_set_that_cannot_pass_is_told_so_and_does_not(hear, n):
    said, report = hear(n)
    hopeless = n < 381
    assert (len(said) == 2) == hopeless
    # no answer differs here: what was foreseen is what happens
    assert report.verdict == ("inconclusive" if hopeless else "pass")
    if hopeless:
        assert "cannot pass --max-drop 1 even if no answer differs: at least 381" in said[1]


def test_nothing_less_than_better_excludes_a_drop_of_zero(hear):
    said, _ = hear(100, ValidateOptions(max_drop_pp=0.0))
    assert "only a better engine would" in said[1]


@pytest.mark.parametrize(
    "case",
    [{"options": ValidateOptions(max_drop_pp=None)}, {"labelled": False}, {"reference": False}],
)
def test_what_will_not_be_judged_is_not_planned(hear, case):
    said, report = hear(50, **case)
    assert said == []
    assert report.to_dict()["plan"] is None


def test_the_plan_in_json():
    found = plan(1000, 0.5).to_dict()
    assert (found["images"], found["max_drop_pp"], found["can_pass"]) == (1000, 0.5, True)
    assert [row["discordant"] for row in found["resolutions"]] == [0.0, 1.0, 5.0]
    excluded = [row["excluded_pp"] for row in found["resolutions"]]
    assert excluded == sorted(excluded)
