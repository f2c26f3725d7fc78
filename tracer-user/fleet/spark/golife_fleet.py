#!/usr/bin/env python3
"""What golife-fleet answers, on a Spark cluster: the same queries over the same files, compaction and roll-ups.

    spark-submit --master spark://HOST:7077 golife_fleet.py query STORE leaks quantiles
    spark-submit --master spark://HOST:7077 golife_fleet.py compact STORE
    spark-submit --master spark://HOST:7077 golife_fleet.py rollup STORE --to STORE/rollup

Queries are the files in ../sql (--sql names another folder), or SQL itself. The driver lists the store and reads each footer, as
golife-fleet does: what cannot be read is left out by name, and a raw file that a compacted one stands for is not counted again.
It needs nothing but PySpark 4, and for s3:// the package org.apache.hadoop:hadoop-aws of Spark's own version of Hadoop.
"""

import argparse
import hashlib
import json
import re
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

from pyspark.sql import SparkSession
from pyspark.sql import types as kinds

VERSION = 1
VERSION_KEY = "golife.schema"
SOURCES_KEY = "golife.sources"
ORDER = ["service", "module", "function", "line", "version", "host"]
SCHEMA = (
    "sweep_time TIMESTAMP, host STRING, service STRING, version STRING, build_id STRING, go_version STRING, image STRING, "
    "module STRING, function STRING, file STRING, line INT, ordinal INT, entry STRING, created BIGINT, exited BIGINT, "
    "live BIGINT, at_attach BIGINT, oldest_ns BIGINT, oldest_at_least BOOLEAN, stack_bytes BIGINT, "
    "waits ARRAY<STRUCT<reason: STRING, count: BIGINT>>, level STRING, cause STRING, evidence ARRAY<STRING>, "
    "lifetime ARRAY<STRUCT<bucket: INT, count: BIGINT>>, lifetime_count BIGINT, lifetime_sum_s DOUBLE, hdr BINARY, "
    "counts STRING, dropped BIGINT, pid BIGINT, processes INT, started TIMESTAMP, window_ns BIGINT, memory_limit BIGINT, "
    "blame STRING, dt DATE, hour INT"
)
# Columns that were added to schema 1, or that may be left out.
ADDED = {"hdr", "pid", "processes", "started", "window_ns", "memory_limit", "blame", "dt", "hour"}
RAW = re.compile(r"sites/dt=(\d{4}-\d\d-\d\d)/hour=(\d\d)/.+-(\d{8}T\d{6}\.\d{3}Z)-[0-9a-f]{8}\.parquet")
COMPACTED = re.compile(r"compact/dt=(\d{4}-\d\d-\d\d)/hour=(\d\d)/[^/]+\.parquet")
HOUR = timedelta(hours=1)
# How many footers are read at once.
AT_ONCE = 32
# How many files may turn out to be broken only while they are read.
BROKEN = 16
# Most bytes of sources that become one file.
MOST_BYTES = 1 << 30


class Sweeps:
    """The files of a store that count, and what is left out and why."""

    def __init__(self, spark, store, since=None, until=None):
        self.spark, self.since, self.until = spark, since, until
        self.jvm = spark.sparkContext._jvm
        self.conf = spark.sparkContext._jsc.hadoopConfiguration()
        # Hadoop has another name for what everybody else calls s3://.
        self.store = re.sub(r"^s3://", "s3a://", store).rstrip("/")
        if "://" not in self.store:
            self.store = Path(self.store).resolve().as_uri()
        self.path = self.jvm.org.apache.hadoop.fs.Path
        self.system = self.path(self.store).getFileSystem(self.conf)
        self.left_out = {}
        self.files = self.listed()
        self.copies = self.without_copies()

    def listed(self):
        """Path below the store → (start of its hour, bytes), by names alone."""
        found = {}
        for top in ("sites", "compact"):
            root = self.path(f"{self.store}/{top}")
            if not self.system.exists(root):
                continue
            for day in self.system.listStatus(root):
                if not self.may_hold(day.getPath().getName()):
                    continue
                left = self.system.listFiles(day.getPath(), True)
                while left.hasNext():
                    status = left.next()
                    path = status.getPath()
                    hour_folder, day_folder = path.getParent(), path.getParent().getParent()
                    name = f"{top}/{day_folder.getName()}/{hour_folder.getName()}/{path.getName()}"
                    if path.getName()[0] in "_.":
                        continue
                    self.add(found, name, status.getLen())
        return found

    def may_hold(self, folder):
        try:
            day = datetime.strptime(folder, "dt=%Y-%m-%d").replace(tzinfo=timezone.utc)
        except ValueError:
            return True
        return not (self.since and day + timedelta(days=1) <= self.since or self.until and day >= self.until)

    def add(self, found, name, size):
        try:
            match = (RAW if name.startswith("sites/") else COMPACTED).fullmatch(name)
            hour = datetime.strptime(f"{match[1]} {match[2]} +0000", "%Y-%m-%d %H %z")
            first, last = hour, hour + HOUR - timedelta(milliseconds=1)
            if name.startswith("sites/"):
                first = last = datetime.strptime(f"{match[3][:-1]}+0000", "%Y%m%dT%H%M%S.%f%z")
            if not hour <= first < hour + HOUR:
                raise ValueError
        except (TypeError, ValueError):
            kind = "a sweep file" if name.startswith("sites/") else "a compacted file"
            self.left_out[name] = f"not named as {kind}"
            return
        if self.since and last < self.since or self.until and first >= self.until:
            return
        if size == 0:
            self.left_out[name] = "is empty"
            return
        found[name] = (hour, size)

    def without_copies(self):
        """Takes files out that are the same as another of one host and moment, to the last byte, and returns them."""
        alike = {}
        for name in sorted(name for name in self.files if name.startswith("sites/")):
            alike.setdefault((name.rpartition("-")[0], self.files[name][1]), []).append(name)
        copies = {}
        for names in (names for names in alike.values() if len(names) > 1):
            known = set()
            for name in names:
                digest = hashlib.sha256(self.content(name)).digest()
                if digest in known:
                    copies[name] = self.files.pop(name)
                    self.left_out[name] = "another one is the same"
                known.add(digest)
        return copies

    def content(self, name):
        stream = self.system.open(self.path(f"{self.store}/{name}"))
        try:
            return bytes(self.jvm.org.apache.commons.io.IOUtils.toByteArray(stream))
        finally:
            stream.close()

    def usable(self):
        """The files of which the footer is that of a sweep file, and that no other one stands for."""
        schemas = {}
        self.covered = covered = set()

        def looked(name):
            try:
                schema, version, sources = self.footer(name)
            except Exception as error:  # Whatever a damaged file makes of the library.
                return name, f"cannot be read: {first_line(error)}"
            if version and not (version.isascii() and version.isdigit() and int(version) <= VERSION):
                return name, f"is of schema {version}, and this job knows schemas up to {VERSION}"
            if schema not in schemas:
                schemas[schema] = fault(schema)
            if schemas[schema]:
                return name, schemas[schema]
            covered.update(sources)
            return name, None

        with ThreadPoolExecutor(AT_ONCE) as pool:
            said = list(pool.map(looked, sorted(name for name in self.files if name not in self.left_out)))
        self.left_out.update((name, why) for name, why in said if why)
        return [name for name, why in said if not why and name not in covered]

    def footer(self, name):
        input_file = self.jvm.org.apache.parquet.hadoop.util.HadoopInputFile
        reader = self.jvm.org.apache.parquet.hadoop.ParquetFileReader.open(
            input_file.fromPath(self.path(f"{self.store}/{name}"), self.conf)
        )
        try:
            meta = reader.getFooter().getFileMetaData()
            pairs = meta.getKeyValueMetaData()
            sources = (pairs.get(SOURCES_KEY) or "").splitlines() if name.startswith("compact/") else []
            return meta.getSchema().toString(), pairs.get(VERSION_KEY), sources
        finally:
            reader.close()

    def frame(self, names):
        """These files as one table."""
        frames = []
        for top in ("sites", "compact"):
            paths = [f"{self.store}/{name}" for name in names if name.startswith(f"{top}/")]
            if paths:
                reader = self.spark.read.schema(SCHEMA).option("basePath", f"{self.store}/{top}")
                frames.append(reader.parquet(*paths))
        if not frames:
            return self.spark.createDataFrame([], SCHEMA)
        table = frames[0].unionByName(frames[-1]) if len(frames) > 1 else frames[0]
        if self.since:
            table = table.where(table.sweep_time >= self.since)
        if self.until:
            table = table.where(table.sweep_time < self.until)
        return table

    def asked(self, names, ask):
        """Asks something of these files. A file that turns out to be broken is left out by name, and it is asked anew."""
        for _ in range(BROKEN):
            left = [name for name in names if name not in self.left_out]
            try:
                self.frame(left).createOrReplaceTempView("sites")
                views(self.spark)
                return ask(left)
            except Exception as error:  # Py4J and Spark have several.
                broken = broken_file(error, left)
                if not broken:
                    raise
                self.left_out[broken] = "cannot be read to its end"
        sys.exit(f"more than {BROKEN} files are broken within: golife fleet check names them")

    def say_left_out(self):
        # spark-submit writes standard error to standard output, which is to be JSON line by line.
        print(json.dumps({"left_out": dict(sorted(self.left_out.items()))}), flush=True)


def fault(schema):
    """What is wrong with the columns of a file, as Parquet writes them."""
    kinds_of = {"string": "binary", "bigint": "int64", "int": "int32", "double": "double", "boolean": "boolean"}
    kinds_of |= {"binary": "binary", "timestamp": "int64"}
    ours = kinds.StructType.fromDDL(SCHEMA)
    theirs = {name: kind for kind, name in re.findall(r"^  (?:optional|required|repeated) (\w+) (\w+)", schema, re.MULTILINE)}
    for field in ours:
        if field.name not in theirs:
            if field.name not in ADDED:
                return f"is of another schema: it has no {field.name}"
        elif theirs[field.name] != kinds_of.get(field.dataType.simpleString(), "group"):
            return f"is of another schema: its {field.name} is something else"
    return None


def broken_file(error, names):
    """The file that an error of Spark is about, if it is one of these."""
    said = re.findall(r"reading file (\S+\.parquet)", str(error))
    return next((name for name in names if any(path.endswith(name) for path in said)), None)


def views(spark):
    for statement in statements(here("views/spark.sql")):
        spark.sql(statement)


def statements(text):
    return [part for part in text.split(";") if part.strip()]


def here(name):
    """A file beside this one: in ../sql, or in the folder that --sql names."""
    return (Path(SQL) / name).read_text(encoding="utf-8")


SQL = Path(__file__).resolve().parent.parent / "sql"


def query(spark, arguments):
    """Prints the rows of each query as one line of JSON, or writes them as Parquet; last, what was left out and why."""
    sweeps = opened(spark, arguments)
    usable = sweeps.usable()
    for name in arguments.queries:
        text = name if " " in name.strip() else here(f"{Path(name).name}.sql")

        def ask(_):
            answer = spark.sql(text)
            if not arguments.to:
                return [row.asDict(True) for row in answer.collect()]
            answer.write.mode("overwrite").parquet(s3a(arguments.to))

        begun = time.monotonic()
        rows = sweeps.asked(usable, ask)
        if not arguments.to:
            answer = {"query": name, "seconds": round(time.monotonic() - begun, 3), "rows": rows}
            print(json.dumps(answer, default=as_json), flush=True)
    sweeps.say_left_out()


def rollup(spark, arguments):
    """Writes each hour with the hosts merged, lifetimes as a list of buckets, in folders of days and hours."""
    sweeps = opened(spark, arguments)

    def ask(_):
        counted, lived = spark.sql(here("rollup.sql")), spark.sql(here("rollup_lifetimes.sql"))
        counted.createOrReplaceTempView("counted")
        lived.createOrReplaceTempView("lived")
        keys = ["hour_ms", "service", "version", "module", "function", "ordinal"]
        same = " AND ".join(f"counted.{key} <=> merged.{key}" for key in keys)
        merged = f"SELECT {', '.join(keys)}, array_sort(collect_list(struct(bucket, count))) AS lifetime FROM lived GROUP BY ALL"
        rolled = spark.sql(
            f"SELECT counted.*, coalesce(lifetime, array()) AS lifetime, CAST(timestamp_millis(counted.hour_ms) AS DATE) AS dt, "
            f"date_format(timestamp_millis(counted.hour_ms), 'HH') AS hour FROM counted LEFT JOIN ({merged}) AS merged ON {same}"
        )
        spark.conf.set("spark.sql.sources.partitionOverwriteMode", "dynamic")
        rolled = rolled.repartition("dt", "hour").sortWithinPartitions("service", "module", "function", "version")
        rolled.write.mode("overwrite").partitionBy("dt", "hour").option("compression", "zstd").parquet(s3a(arguments.to))

    sweeps.asked(sweeps.usable(), ask)
    sweeps.say_left_out()


def compact(spark, arguments):
    """Makes one file of the many of an hour, which golife-fleet takes as its own: it says in its footer what it stands for."""
    over = datetime.now(timezone.utc) - timedelta(minutes=arguments.after)
    sweeps = opened(spark, arguments)
    listed = {}
    for name in sweeps.files:
        listed.setdefault(sweeps.files[name][0], []).append(name)
    raw = {}
    for name in sweeps.usable():
        hour = sweeps.files[name][0]
        if name.startswith("sites/") and hour + HOUR <= over and len(listed[hour]) > 1:
            raw.setdefault(hour, []).append(name)
    for hour, names in sorted(raw.items()):
        copies = sorted(name for name, (of, _) in sweeps.copies.items() if of == hour and name not in sweeps.covered)
        for portion in portions(sorted(names), sweeps.files):
            made = sweeps.asked(portion, lambda left: compacted(spark, sweeps, hour, left + copies))
            copies = []
            print(json.dumps({"hour": f"{hour:%Y-%m-%dT%H:00:00Z}", "files": len(portion), "compacted": made}))
    sweeps.say_left_out()


def portions(names, files):
    whole, size = [], MOST_BYTES
    for name in names:
        if size + files[name][1] > MOST_BYTES:
            whole.append([])
            size = 0
        size += files[name][1]
        whole[-1].append(name)
    return whole


def compacted(spark, sweeps, hour, sources):
    """Writes one file in the place of several. Spark cannot say what a file stands for; the file gets its footer on its way."""
    name = hashlib.sha256("\n".join(sources).encode()).hexdigest()[:16]
    target = f"compact/dt={hour:%Y-%m-%d}/hour={hour:%H}/{name}.parquet"
    if sweeps.system.exists(sweeps.path(f"{sweeps.store}/{target}")):
        return target
    aside = f"{sweeps.store}/_spark-{uuid.uuid4().hex}"
    try:
        table = spark.table("sites").drop("dt", "hour").coalesce(1).sortWithinPartitions(*ORDER)
        table.write.option("compression", "zstd").option("parquet.block.size", 128 << 20).parquet(aside)
        entries = sweeps.system.listStatus(sweeps.path(aside))
        [part] = [str(entry.getPath()) for entry in entries if entry.getPath().getName().startswith("part-")]
        with_footer(sweeps, part, target, {VERSION_KEY: str(VERSION), SOURCES_KEY: "\n".join(sources)})
    finally:
        sweeps.system.delete(sweeps.path(aside), True)
    return target


def with_footer(sweeps, part, target, pairs):
    """Copies a Parquet file as it is, with more in its metadata. It appears whole or not at all."""
    util, hadoop = sweeps.jvm.org.apache.parquet.hadoop.util, sweeps.jvm.org.apache.parquet.hadoop
    source = util.HadoopInputFile.fromPath(sweeps.path(part), sweeps.conf)
    reader = hadoop.ParquetFileReader.open(source)
    schema = reader.getFooter().getFileMetaData().getSchema()
    reader.close()
    # An object store shows an object when it is closed; in a folder the name is given last.
    final = sweeps.path(f"{sweeps.store}/{target}")
    is_folder = sweeps.store.startswith("file:")
    written = sweeps.path(final.getParent(), f"_{uuid.uuid4().hex}") if is_folder else final
    modes = sweeps.jvm.org.apache.parquet.hadoop.ParquetFileWriter.Mode
    writer = hadoop.ParquetFileWriter(util.HadoopOutputFile.fromPath(written, sweeps.conf), schema, modes.CREATE, 128 << 20, 0)
    writer.start()
    writer.appendFile(source)
    writer.end(pairs)
    if is_folder:
        sweeps.system.rename(written, final)


def opened(spark, arguments):
    return Sweeps(spark, arguments.store, arguments.since, arguments.until)


def s3a(url):
    return re.sub(r"^s3://", "s3a://", url)


def as_json(value):
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).hex()
    raise TypeError(type(value).__name__)


def first_line(error):
    lines = str(getattr(error, "java_exception", error)).splitlines()
    return lines[0] if lines else type(error).__name__


def moment(text):
    """A time such as 2026-11-28 or 2026-11-28T03:00:00Z, in UTC."""
    when = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return when if when.tzinfo else when.replace(tzinfo=timezone.utc)


def parsed():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sql", default=SQL, help="the folder with the queries")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, run in (("query", query), ("compact", compact), ("rollup", rollup)):
        command = commands.add_parser(name, help=run.__doc__)
        command.set_defaults(run=run)
        command.add_argument("store", help="a folder that all machines see, s3://BUCKET/PATH or what else Hadoop reads")
        command.add_argument("--since", type=moment, help="only sweeps from then on")
        command.add_argument("--until", type=moment, help="only sweeps before then")
        if name == "query":
            text = "the name of a file of queries without .sql, or a query over sites, timed and lifetimes"
            command.add_argument("queries", metavar="QUERY", nargs="+", help=text)
        if name == "compact":
            command.add_argument("--after", type=float, default=15, help="minutes after which an hour is over")
        else:
            command.add_argument("--to", required=name == "rollup", help="write Parquet there")
    return parser.parse_args()


def main():
    global SQL
    arguments = parsed()
    SQL = arguments.sql
    spark = SparkSession.builder.appName(f"golife-fleet {arguments.command}").getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    # Times mean the same on all machines, and half of a file must not count.
    for key, value in {
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.files.ignoreCorruptFiles": "false",
        "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MILLIS",
    }.items():
        spark.conf.set(key, value)
    try:
        arguments.run(spark, arguments)
    finally:
        spark.stop()


if __name__ == "__main__":
    main()
