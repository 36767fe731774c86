"""Hold a built wheel against the checkout: it has every module and plugin, and nothing of its own at the top."""

import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
names = set(zipfile.ZipFile(sys.argv[1]).namelist())
top = {name.partition("/")[0] for name in names if ".dist-info/" not in name}
expected = {path.relative_to(ROOT).as_posix() for path in (ROOT / "bench").rglob("*.py")}
expected |= {
    f"bench/{folder}/{path.name}" for folder in ("architectures", "datasets") for path in (ROOT / folder).glob("*.py")
}
data = ("recipes/*.toml", "templates/*")
expected |= {path.relative_to(ROOT).as_posix() for each in data for path in (ROOT / "bench").glob(each)}
expected |= {"bench/py.typed", "bench/sweep.schema.json"}
missing = expected - names
if top != {"bench"} or missing:
    sys.exit(f"the wheel has {sorted(top)} at its top, expected bench alone; missing: {sorted(missing) or 'nothing'}")

import bench  # noqa: E402

if ROOT in Path(bench.__file__).resolve().parents:
    sys.exit(f"bench is imported from the checkout, not from the wheel: {bench.__file__}")
print(f"{len(names)} files, all modules and plugins among them; bench is {bench.__file__}")
