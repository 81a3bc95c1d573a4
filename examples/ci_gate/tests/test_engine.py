"""The gate of this repository; the settings are in pytest.ini."""


def test_engine(assert_no_regression):
    """The engine is as good as FP32, and no worse than the one that was last accepted."""
    report = assert_no_regression()
    # what else this product promises
    assert report.agreement >= 98, "percent of images with FP32's answer"
    assert report.logit_sqnr_db >= 20
