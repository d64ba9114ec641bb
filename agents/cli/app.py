"""Defines the command line: `tercet demo`, `simulate`, `agent`, `job`, `predict` and more.

It reads files, calls the rooms behind it and shows what they say. Each command imports what it alone needs when it is
called, so that the others start at once. Exit codes: 0 done; 1 the job failed or was
cancelled; 2 wrong usage; 3 a file, a key or a table cannot be used; 4 broker or agent do not answer.
"""

import signal
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tercet.agents.cli import rendering
from tercet.agents.cli.audit import audits
from tercet.agents.cli.broker import brokers, read_letters
from tercet.agents.cli.compare import compare, statistics
from tercet.agents.cli.doctor import doctor, explain
from tercet.agents.cli.job import SettingsOption, jobs, run_prediction
from tercet.agents.cli.kit import kit
from tercet.agents.cli.output import use_whole_streams
from tercet.agents.cli.runner import (
    JOB_FAILED,
    UNUSABLE_FILE,
    WORTHLESS,
    Format,
    FormatOption,
    checked,
    job_of,
    leave,
    run,
    settings_of,
    show,
)
from tercet.agents.cli.select import select
from tercet.agents.cli.timeline import timeline
from tercet.agents.cli.user import users
from tercet.agents.core.log_level import Level
from tercet.agents.core.private_file import replace
from tercet.agents.core.states import State
from tercet.schemas.files.invalid import Invalid

if TYPE_CHECKING:
    from tercet.agents.serving.web import ScoreApp
    from tercet.agents.simulation.simulate import Simulation
    from tercet.schemas.core.trace import StepTrace
    from tercet.schemas.files.settings import Settings

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Train one model over several companies' columns; nobody sees anybody else's rows.",
    epilog="Exit codes: 0 done, 1 job failed or cancelled, 2 usage, 3 file, key or table unusable, 4 no broker/agent, "
    "5 done, but no better than a constant.",
)
app.add_typer(jobs, name="job")
app.add_typer(audits, name="audit")
app.command()(doctor)
app.command()(explain)
app.command()(compare)
app.command()(select)
app.command()(statistics)
app.command()(kit)
app.add_typer(brokers, name="broker")
app.add_typer(users, name="user")

JobFile = Annotated[Path, typer.Argument(metavar="JOB.toml", help="the job description")]
LogLevel = Annotated[Level, typer.Option("--log", help="the lowest level that is logged")]


LETTER_SECONDS = 3.0  # for a connection to the broker


class DemoModel(StrEnum):
    """Names the models that the demo can train."""

    LOGISTIC = "logistic"
    MLP = "mlp"


class Positives(StrEnum):
    """Names what a label of 1 may be."""

    BAD = "bad"
    GOOD = "good"


@app.callback(invoke_without_command=True)
def _top(*, show_version: Annotated[bool, typer.Option("--version", help="print the version and end")] = False) -> None:
    if show_version:
        from importlib.metadata import version  # noqa: PLC0415

        typer.echo(f"tercet {version('tercet')}")
        raise typer.Exit


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="folder for the model parts")] = Path("tercet-demo"),
    model: Annotated[DemoModel, typer.Option(help="logistic regression, or a network of one hidden layer")] = (
        DemoModel.LOGISTIC
    ),
    format: FormatOption = Format.TEXT,  # noqa: A002 - the option's name
    log: LogLevel = Level.ERROR,
) -> None:
    """Train the credit example with all parties in one process; compare with each alone."""
    from tercet.agents.cli.demo import run_demo  # noqa: PLC0415 - scikit-learn takes a second that no other command should pay
    from tercet.agents.core import logs  # noqa: PLC0415

    logs.configure(log)
    run(run_demo(out, format, model))


@app.command()
def simulate(
    job: JobFile,
    settings: Annotated[
        Path | None,
        typer.Option(help="folder with each party's PARTY.toml, or PARTY/settings.toml; by default the job's own"),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="folder for the model parts; by default they are not kept")] = None,
    *,
    trace: Annotated[bool, typer.Option("--trace", help="tell what one step was spent on at each party")] = False,
    format: FormatOption = Format.TEXT,  # noqa: A002
    log: LogLevel = Level.ERROR,
) -> None:
    """Run a job with all its parties in this process; check it against plaintext bit for bit."""
    import tempfile  # noqa: PLC0415

    from tercet.agents.core import logs  # noqa: PLC0415
    from tercet.agents.simulation.parties import settings_of_all  # noqa: PLC0415
    from tercet.agents.simulation.simulate import simulate_job, summary  # noqa: PLC0415

    logs.configure(log, failures=False)  # the summary has it
    description = job_of(job)
    parties = checked(settings_of_all, description.parties, settings or job.parent)
    with tempfile.TemporaryDirectory() as nowhere, rendering.Bar(description.name) as bar:
        simulation = run(simulate_job(description, parties, out or Path(nowhere), watch=bar.show))
        result = summary(simulation)
    if out is None:
        for gone in ("model_parts", "scores", "statistics", "reports"):
            del result[gone]
    traces = _traces(simulation) if trace else {}
    if format is Format.JSON:
        rendering.print_json(result | ({"trace": traces} if trace else {}))
    else:
        rendering.print_summary(result)
        for step in traces.values():
            rendering.out.print(timeline(step))
    if result["state"] != "done":
        raise typer.Exit(JOB_FAILED)
    if result["worthless"]:
        raise typer.Exit(WORTHLESS)


def _traces(simulation: "Simulation") -> "dict[str, StepTrace]":
    from tercet.agents.messaging.trace import step_of_all  # noqa: PLC0415

    return step_of_all(
        {party: run.context.trace for party, run in simulation.runs.items()}, simulation.description.label
    )


@app.command()
def predict(
    job: JobFile,
    settings: SettingsOption,
    out: Annotated[Path | None, typer.Option(help="where to copy the scores, at the label party")] = None,
    format: FormatOption = Format.TEXT,  # noqa: A002
) -> None:
    """Score new rows with a trained model. Only the label party gets the scores."""
    description = job_of(job)
    if description.kind != "prediction":
        checked(_refuse, f'{job}: no prediction; write kind = "prediction" and of = "the id of a training job"')
        return
    own = settings_of(settings)
    if out is not None and own.party != description.label:
        checked(_refuse, f"--out: the scores are for {description.label} alone; leave it out at {own.party}")
    status = run_prediction(description, settings)
    if out is not None and status.scores is not None:
        checked(_copy_private, Path(status.scores), out)
    show(format, status, rendering.job_details)
    if status.state != State.DONE:
        raise typer.Exit(JOB_FAILED)


def _copy_private(source: Path, target: Path) -> None:
    """Copy a file for this user only."""
    try:
        replace(target, source.read_bytes())
    except OSError as error:
        raise Invalid(f"{target}: {error.strerror}; the scores are in {source}") from None


def _refuse(text: str) -> None:
    raise Invalid(text)


@app.command(name="serve")
def serve_scores(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="a job's id; or the folder or file of a whole model")],
    settings: SettingsOption,
    *,
    port: Annotated[int, typer.Option(help="where to listen", min=0, max=65535)] = 8080,
    address: Annotated[str, typer.Option(help="another than loopback needs --token-file")] = "127.0.0.1",
    table: Annotated[str | None, typer.Option(help="the table to look rows up in; by default your only one")] = None,
    purpose: Annotated[str, typer.Option(help="what scores are for, as agreed with the partners")] = "",
    token_file: Annotated[Path | None, typer.Option(help="a private file with a token that callers send")] = None,
    host: Annotated[list[str] | None, typer.Option(help="a name by which callers call this server")] = None,
) -> None:
    """Score single rows while customers wait: POST /scores, as JSON. Partners must allow it."""
    from tercet.agents.core import logs  # noqa: PLC0415
    from tercet.agents.serving.server import choose_scores, read_token  # noqa: PLC0415 - a web framework
    from tercet.agents.serving.web import LOOPBACK, ScoreApp  # noqa: PLC0415

    logs.configure("error")
    own = settings_of(settings)
    token = checked(read_token, token_file, address)
    scores = checked(choose_scores, own, model, table, purpose)
    names = LOOPBACK | {name.lower() for name in (address, *(host or ()))}
    run(_serve_scores(ScoreApp(scores, names, token), own, address, port))


async def _serve_scores(scores: "ScoreApp", own: "Settings", address: str, port: int) -> None:
    import asyncio  # noqa: PLC0415

    from tercet.agents.daemon.http_server import Listening, WebServer  # noqa: PLC0415
    from tercet.agents.serving.server import MOST_CONNECTIONS, MOST_REQUEST, wait_until_ready  # noqa: PLC0415

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await wait_until_ready(scores.scores, own.deadlines.ready, rendering.remark)
    place = Listening("tercet serve", address, port, most_request=MOST_REQUEST, most_connections=MOST_CONNECTIONS)
    async with WebServer(scores.build(), place) as server:
        where = f"[{address}]" if ":" in address else address
        rendering.remark(f"Scores are at http://{where}:{server.port}/scores; Ctrl-C ends it.")
        await stop.wait()


@app.command()
def table(
    settings: Annotated[Path, typer.Argument(metavar="SETTINGS.toml", help="a data party's settings")],
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="one table; by default all")] = None,
    format: FormatOption = Format.TEXT,  # noqa: A002
) -> None:
    """Read this party's tables as a job would, and print what each column is taken for."""
    from tercet.agents.access.table import describe_tables  # noqa: PLC0415 - pyarrow

    own = settings_of(settings)
    if name is not None and name not in own.tables:
        checked(_refuse, f"{settings}: lists no table {name!r}")
    found, wrong = describe_tables({one: own.tables[one] for one in ([name] if name else own.tables)})
    if format is Format.JSON:
        rendering.print_json(found | {one: {"error": what} for one, what in wrong.items()})
    else:
        for one, columns in found.items():
            rendering.out.print(rendering.column_table(one, columns))
            for hint in rendering.hints(columns):
                rendering.out.print(hint, soft_wrap=True)
            for warning in columns["warnings"]:
                rendering.warn(warning)
    for what in wrong.values():
        rendering.complain(what)
    if wrong:
        raise typer.Exit(UNUSABLE_FILE)


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(metavar="PART_FOLDER", help='the label party\'s part, release = "label"')],
    out: Annotated[Path, typer.Option(help="a new file: .safetensors, for tercet.load, or .onnx")],
) -> None:
    """Write the whole model of a label party's part as one file that needs nothing else."""
    from tercet.agents.models.export import export_model  # noqa: PLC0415 - numpy and pydantic models

    checked(export_model, folder, out)
    rendering.err.print(
        f"{out} has the weights and encodings of all parties' columns; it stays with you.", soft_wrap=True
    )


@app.command()
def scorecard(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="a model part's folder, or a whole model's file")],
    *,
    pdo: Annotated[float | None, typer.Option(help="points to double the odds; else as the job says, or 20")] = None,
    base_points: Annotated[float | None, typer.Option(help="points at the base odds; else 600")] = None,
    base_odds: Annotated[float | None, typer.Option(help="odds of the good to the bad; else 50")] = None,
    positives: Annotated[Positives | None, typer.Option(help="what a label of 1 is; else bad")] = None,
    out: Annotated[Path | None, typer.Option(help="a new file: .csv or .json")] = None,
    format: FormatOption = Format.TEXT,  # noqa: A002
) -> None:
    """Turn a logistic model's weights into points: of your own columns, or of a whole model."""
    from tercet.agents.scorecards.card_file import card_rows, cards_json, read_cards, write_cards  # noqa: PLC0415 - numpy

    asked = {"pdo": pdo, "base_points": base_points, "base_odds": base_odds, "positives": positives}
    cards = checked(read_cards, model, {name: one for name, one in asked.items() if one is not None})
    if out is not None:
        checked(write_cards, cards, out)
    title = f"{cards.job}: {cards.rule}"
    show(format, cards_json(cards), lambda _: rendering.card_table(title, card_rows(cards)))


@app.command()
def keygen(path: Annotated[Path, typer.Argument(metavar="KEYFILE", help="a new file for the private key")]) -> None:
    """Make an identity. The private key goes to a new file, the public key to standard output."""
    from tercet.broker.sealing.identity import Identity, save_identity  # noqa: PLC0415

    identity = Identity.generate()
    checked(save_identity, identity, path)
    rendering.err.print(f"The private key is in {path}; it stays with you. Give partners this public key:")
    typer.echo(identity.public.text)
    rendering.err.print(
        f"Its fingerprint, which each partner compares with you by telephone: {identity.public.fingerprint}",
        soft_wrap=True,
    )


@app.command()
def agent(
    settings: Annotated[Path, typer.Argument(metavar="SETTINGS.toml", help="this party's settings")],
    log: LogLevel = Level.INFO,
) -> None:
    """Run a party's agent until SIGTERM or Ctrl-C. It logs JSON to standard error."""
    from tercet.agents.core import logs  # noqa: PLC0415

    logs.configure(log, daemon=True)
    run(serve(settings_of(settings), path=settings))
    leave()


async def serve(settings: "Settings", contribute: Callable[[], bytes] | None = None, path: Path | None = None) -> None:
    """Run a daemon from its settings to SIGTERM; at SIGHUP it reads them again from `path`.

    Only tests pass another `contribute`.
    """
    import asyncio  # noqa: PLC0415

    from tercet.agents.access.broker import connect  # noqa: PLC0415
    from tercet.agents.access.identity import own_identity  # noqa: PLC0415
    from tercet.agents.access.partner_keys import check_partner_keys  # noqa: PLC0415
    from tercet.agents.core import logs  # noqa: PLC0415
    from tercet.agents.daemon.agent import Agent  # noqa: PLC0415
    from tercet.agents.daemon.reloading import reload_on_signal  # noqa: PLC0415
    from tercet.agents.daemon.service import notify_service_manager  # noqa: PLC0415
    from tercet.agents.daemon.systemd import Notifier  # noqa: PLC0415
    from tercet.agents.session.context import system_randomness  # noqa: PLC0415

    logs.bind_party(settings.party)  # before the connections, whose tasks inherit it
    stop, again = asyncio.Event(), asyncio.Event()
    for number, event in ((signal.SIGTERM, stop), (signal.SIGINT, stop), (signal.SIGHUP, again)):
        asyncio.get_running_loop().add_signal_handler(number, event.set)
    identity, notifier = own_identity(settings), Notifier.of_environment()
    check_partner_keys(settings, identity.public)
    broker = await connect(settings)
    try:
        agent = Agent(settings, identity, broker, contribute=contribute or system_randomness)
        beside = [] if path is None else [reload_on_signal(again, agent, path)]
        page = None
        if settings.page.port is not None:
            from tercet.agents.page.site import Page, listening  # noqa: PLC0415 - a web framework

            place = listening(settings.page, settings.page.port)
            site = Page(agent, broker, partial(read_letters, settings, seconds=LETTER_SECONDS))
            page, beside = (site.app, place), [*beside, site.watch()]
        await notify_service_manager(agent, broker, stop, notifier, *beside, page=page)
    finally:
        await broker.close()


def main() -> None:
    """Run the command line."""
    use_whole_streams()
    app()
