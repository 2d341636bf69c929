"""The view of an experiment that MLflow's pages open with: which columns, in which order, and which charts.

MLflow keeps the views that people save in tags of the experiment, as JSON of a name, two times and the page's state,
the latter deflated and in base64. This makes such a tag. It stands in the page's menu "Views" beside those that people
save; one that they change there stays changed.
"""

import base64
import json
import time
import zlib
from typing import Any

KEY = "flowers"
TAG = f"mlflow.sharedViewState.{KEY}"
ACCURACY_AND_LOSS = (
    ("LINE", "val/acc"),
    ("LINE", "train/acc"),
    ("BAR", "test/acc"),
    ("LINE", "val/loss"),
    ("LINE", "train/loss"),
    ("BAR", "test/loss"),
    ("IMAGE", "val/confusion"),
)
"""A row of the page holds three charts. The other figures follow in sections that MLflow makes."""
COLUMNS = (
    "metrics.`val/acc`",
    "metrics.`test/acc`",
    "metrics.`train/acc`",
    "metrics.`val/loss`",
    "tags.`test/acc interval`",
    "tags.`recipe`",
    "tags.`stages`",
    "params.`seed`",
    "attributes.`Description`",
    "tags.`git_commit`",
)
_FIRST = ("attributes.`Run Name`", "runDateAndNestInfo")
"""The columns that MLflow shows always: name and time."""
WIDTHS_PX = {
    "attributes.`Run Name`": 300,
    "tags.`test/acc interval`": 150,
    "tags.`recipe`": 150,
    "tags.`stages`": 260,
    "attributes.`Description`": 200,
}
"""Of the columns that are wider than MLflow makes them."""
_SECTION = "accuracy-and-loss"


def view_tag() -> str:
    """Make the value of the experiment's tag."""
    now_ms = int(time.time() * 1000)
    return json.dumps({"name": KEY, "createdAt": now_ms, "updatedAt": now_ms, "state": _packed_state()})


def needs_view(tag: str | None) -> bool:
    """Say whether an experiment lacks the view, or has one that an earlier version made and nobody changed since.

    Args:
        tag: The value of its tag; None if it has none.
    """
    if tag is None:
        return True
    try:
        view = json.loads(tag)
        return bool(view["createdAt"] == view["updatedAt"] and view["state"] != _packed_state())
    except (ValueError, LookupError, TypeError):  # another program's
        return False


def _packed_state() -> str:
    state = {
        "searchFilter": "",
        "orderByKey": "attributes.start_time",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": list(COLUMNS),
        "columnOrder": [*_FIRST, *COLUMNS],
        "columnWidths": WIDTHS_PX,
        "runsHiddenMode": "FIRST_20_RUNS",
        "viewMaximized": False,
        "runListHidden": False,
        "useGroupedValuesInCharts": True,
        "hideEmptyCharts": True,
        "groupBy": None,
        "groupsExpanded": {},
        "autoRefreshEnabled": True,
        "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
        "isAccordionReordered": True,
        "compareRunSections": [
            {"uuid": _SECTION, "name": "Accuracy and loss", "display": True, "isReordered": True, "deleted": False}
        ],
        "compareRunCharts": [_chart(kind, metric) for kind, metric in ACCURACY_AND_LOSS],
    }
    packed = base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
    return f"deflate;{packed}"


def _chart(kind: str, metric: str) -> dict[str, Any]:
    chart: dict[str, Any] = {
        "uuid": metric.replace("/", "-"),
        "type": kind,
        "metricSectionId": _SECTION,
        "deleted": False,
        "isGenerated": False,
        "metricKey": metric,
        "runsCountToCompare": 20,
    }
    if kind == "BAR":
        return {**chart, "displayName": metric}
    if kind == "IMAGE":
        return {**chart, "imageKeys": [metric], "step": 1, "showRunParams": False}
    return {
        **chart,
        "selectedMetricKeys": [metric],
        "lineSmoothness": 0,
        "xAxisScaleType": "linear",
        "scaleType": "linear",
        "range": {},
        "xAxisKey": "step",
        "selectedXAxisMetricKey": "",
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "ignoreOutliers": False,
        "useGlobalXaxisKey": True,
        "useGlobalLineSmoothing": True,
        "selectedYAxisMetricKey": "metric",
    }


def view_address(base: str, experiment_id: str) -> str:
    """Name the page of an experiment's runs in this view.

    Args:
        base: Of the pages, like ``http://127.0.0.1:5000``.
        experiment_id: MLflow's number of the experiment.
    """
    # Without the kind of workflow a new browser gets the pages for another kind of work.
    return f"{base}/#/experiments/{experiment_id}/runs?workflowType=machine_learning&viewStateShareKey={KEY}"
