"""Frames of other packages, where these are installed."""

import math

import forgetting_laws as fl
import pytest
from test_fit import table


@pytest.fixture(scope="module")
def expected():
    whole = table()
    whole["loss_pt"][3] = None
    return fl.fit(whole, bootstrap=0).params


def test_pandas(expected):
    pandas = pytest.importorskip("pandas")
    whole = table()
    whole["loss_pt"][3] = None
    frame = pandas.DataFrame(whole)
    # Nullable, object and NaN columns; an index that does not count from 0; rows in another order.
    for variant in (frame, frame.convert_dtypes(), frame.astype(object), frame.set_index("p", drop=False)):
        assert fl.fit(variant, bootstrap=0).params == expected
    assert fl.fit(frame.iloc[::2], bootstrap=0).n_runs == 18
    predicted = fl.fit(frame, bootstrap=0).predict(frame)
    assert predicted["value"].shape == (36,) and math.isnan(predicted["low"][0])
    for empty in (frame.iloc[:0], pandas.DataFrame()):
        with pytest.raises(fl.ForgettingLawsError, match="no rows"):
            fl.fit(empty)
    with pytest.raises(fl.ForgettingLawsError, match="row 1: p is"):
        fl.fit(frame.assign(p=pandas.Timestamp("2026-01-01")))
    with pytest.raises(fl.ForgettingLawsError, match="row 1: p is 'x'"):
        fl.fit(frame.assign(p=pandas.Categorical(["x"] * 36)))


def test_polars(expected):
    polars = pytest.importorskip("polars")
    whole = table()
    whole["loss_pt"][3] = None
    frame = polars.DataFrame(whole)
    assert fl.fit(frame, bootstrap=0).params == expected
    assert fl.fit(frame.with_columns(polars.col("p").cast(polars.String)), bootstrap=0).params == expected
    assert fl.fit(frame.gather_every(2), bootstrap=0).n_runs == 18
    with pytest.raises(fl.ForgettingLawsError, match="no rows"):
        fl.fit(frame.head(0))
    with pytest.raises(fl.ForgettingLawsError, match="row 1: p is"):
        fl.fit(frame.with_columns(p=polars.lit([1.0, 2.0])))


def test_what_is_no_frame_yet_is_refused():
    polars = pytest.importorskip("polars")
    with pytest.raises(fl.ForgettingLawsError, match="a LazyFrame has no rows yet: give what its collect"):
        fl.fit(polars.DataFrame(table()).lazy())
    with pytest.raises(fl.ForgettingLawsError, match="a GroupBy is no table: give the frame"):
        fl.fit(polars.DataFrame(table()).group_by("p"))
    pandas = pytest.importorskip("pandas")
    with pytest.raises(fl.ForgettingLawsError, match="a DataFrameGroupBy is no table: give the frame"):
        fl.fit(pandas.DataFrame(table()).groupby("p"))


def test_frames_count_repeated_rows_as_files_do():
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    pyarrow = pytest.importorskip("pyarrow")
    rows = {name: values + values[:10] for name, values in table().items()}
    rows["machine"] = ["a"] * 36 + ["b"] * 10
    for frame in (pandas.DataFrame, polars.DataFrame, pyarrow.table):
        assert fl.fit(frame(rows), bootstrap=0).n_rows == 46
        assert fl.fit(frame({**rows, "machine": [7] * 46}), bootstrap=0).n_rows == 36


def test_pyarrow(expected):
    pyarrow = pytest.importorskip("pyarrow")
    whole = table()
    whole["loss_pt"][3] = None
    frame = pyarrow.table(whole)
    assert fl.fit(frame, bootstrap=0).params == expected
    chunked = pyarrow.concat_tables([frame.slice(0, 7), frame.slice(7)])
    assert chunked.column("p").num_chunks == 2
    assert fl.fit(chunked, bootstrap=0).params == expected
    assert fl.fit(frame.combine_chunks().to_batches()[0], bootstrap=0).params == expected
    with pytest.raises(fl.ForgettingLawsError, match="no rows"):
        fl.fit(frame.slice(0, 0))
    twins = pyarrow.table([pyarrow.array([0.1]), pyarrow.array([0.2])], names=["p", "p"])
    with pytest.raises(fl.ForgettingLawsError, match="several columns are named p"):
        fl.fit(twins)


def test_datasets(expected):
    datasets = pytest.importorskip("datasets")
    whole = table()
    whole["loss_pt"][3] = None
    data = datasets.Dataset.from_dict(whole)
    assert fl.fit(data, bootstrap=0).params == expected
    assert fl.fit(data.select(range(0, 36, 2)), bootstrap=0).n_runs == 18


def test_datasets_are_injected():
    datasets = pytest.importorskip("datasets")
    target = datasets.Dataset.from_dict({"input_ids": [[i, i] for i in range(10)]})
    pretraining = datasets.Dataset.from_dict({"input_ids": [[100 + i] * 2 for i in range(30)]})
    mixture = fl.Mixture(0.25, steps=5, batch=4, target_sequences=10, pretraining_sequences=30)
    samples = fl.InjectedDataset(target, pretraining, mixture)
    first = [samples[i]["input_ids"][0] for i in range(len(samples))]
    order = mixture.indices(0, 20)
    assert first == [i if i < 10 else 90 + i for i in order.tolist()]


def test_lists_of_pandas_predict_in_their_order():
    pandas = pytest.importorskip("pandas")
    fit = fl.fit(table(), bootstrap=0)
    frame = pandas.DataFrame({"n_params": [1e8, 2e8], "d_ft_tokens": [1e7, 1e7], "p": [0.0, 0.05]})
    ascending = fit.predict(frame)["value"]
    assert fit.predict(frame.iloc[::-1])["value"].tolist() == ascending.tolist()[::-1]
