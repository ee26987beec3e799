"""Labels that look like numbers come back from the catalog's files as they went in."""

from pathlib import Path

import pandas as pd
import pytest
from kedro.io import DataCatalog
from omegaconf import OmegaConf

CONF = Path(__file__).parents[2] / "conf" / "base"
LABELS = ["01", "1e3", "1000", "NA", "1_000", "0x1F", "nan"]


def entries() -> dict[str, dict]:
    found = OmegaConf.to_container(OmegaConf.load(CONF / "catalog.yml"), resolve=False)
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("splits", ["subject", "split"]),
        ("recordings", ["subject", "session", "task", "run"]),
        ("participants", ["subject"]),
    ],
)
def test_labels_stay_text(tmp_path, name, columns):
    config = entries()[name] | {"filepath": str(tmp_path / name)}
    config.pop("metadata")
    table = pd.DataFrame(dict.fromkeys(columns, LABELS))
    catalog = DataCatalog.from_config({name: config})
    catalog.save(name, table)
    pd.testing.assert_frame_equal(catalog.load(name), table)


def test_quality_keeps_its_labels_and_its_numbers(tmp_path):
    config = entries()["quality"] | {"filepath": str(tmp_path / "quality.csv")}
    config.pop("metadata")
    table = pd.DataFrame({"subject": ["01", "1e3"], "run": ["01", None], "seconds": [1.5, None]})
    catalog = DataCatalog.from_config({"quality": config})
    catalog.save("quality", table)
    found = catalog.load("quality")
    assert found["subject"].tolist() == ["01", "1e3"]
    assert found["run"].iloc[0] == "01"
    assert found["seconds"].dtype == float
