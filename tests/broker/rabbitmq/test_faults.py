"""RabbitMQ's own troubles: lost, stalled and refused connections, missing rights, wrong logins, a broker that dies."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from typing import Any

import aio_pika
import aiormq
import pytest
from yarl import URL

from tercet.broker.interface.base import (
    Delivery,
    Disconnected,
    Envelope,
    Lane,
    NoLogin,
    NoQueue,
    Occupied,
    Queue,
    Refused,
    Unroutable,
)
from tercet.broker.interface.outbox import Outbox
from tercet.broker.rabbitmq.broker import RabbitBroker
from tests.broker.contract import PATIENCE, Inbox, Place, next_inbox, open_queue, settled, until_connected, until_done
from tests.broker.contract import place as place  # a fixture
from tests.broker.proxy import Proxy, proxied
from tests.rabbitmq_node import Node, free_ports


@pytest.fixture
async def proxy(amqp_url: str) -> AsyncIterator[Proxy]:
    url = URL(amqp_url)
    async with proxied(url.host or "", url.port or 5672) as proxy:
        yield proxy


@pytest.fixture
async def broken(amqp_url: str, proxy: Proxy) -> AsyncIterator[RabbitBroker]:
    """A connection that the proxy may break."""
    url = URL(amqp_url).with_host("127.0.0.1").with_port(proxy.port)
    broker = await RabbitBroker.connect(str(url), name="card", heartbeat=1)
    yield broker
    proxy.flow()
    await broker.close()


@pytest.fixture
async def whole(amqp_url: str) -> AsyncIterator[RabbitBroker]:
    """A connection that nobody breaks."""
    broker = await RabbitBroker.connect(amqp_url, name="bank")
    yield broker
    await broker.close()


async def test_after_a_cut_consumers_go_on_and_unsettled_deliveries_come_again(
    broken: RabbitBroker, whole: RabbitBroker, proxy: Proxy, place: Place
):
    """Without a word from the party; what it settles late is forgotten."""
    queues = [Queue(f"{place.queue.name}.{n}", ((place.exchange, f"to.{n}"),), private=n == 0) for n in range(3)]
    inboxes = [Inbox(settle=False) for _ in queues]
    for queue, inbox in zip(queues, inboxes, strict=True):
        await broken.declare(queue)
        await broken.consume(queue.name, inbox, Lane.ONLINE)
    await whole.publish(place.envelope(b"unsettled", routing_key="to.1"), Lane.ONLINE)
    (unsettled,) = await inboxes[1].holds(1)
    proxy.cut()
    await inboxes[1].holds(2)
    assert inboxes[1].bodies == [b"unsettled"] * 2
    assert inboxes[1].deliveries[1].redelivered
    await unsettled.ack()
    for n, inbox in enumerate(inboxes):
        attempt = partial(whole.publish, place.envelope(routing_key=f"to.{n}"), Lane.ONLINE)
        await until_done(attempt, Unroutable)
        await inbox.holds(3 if n == 1 else 1)
    for queue in queues:
        await broken.delete(queue.name)


async def test_a_handler_outlives_the_connection(broken: RabbitBroker, whole: RabbitBroker, proxy: Proxy, place: Place):
    """It is not cancelled by a cut, ends in its own time, and its delivery comes again."""
    begun, go = asyncio.Event(), asyncio.Event()
    ended: asyncio.Queue[bool] = asyncio.Queue()

    async def handler(delivery: Delivery) -> None:
        begun.set()
        await go.wait()
        await delivery.ack()
        await ended.put(delivery.redelivered)

    await broken.declare(place.queue)
    await broken.consume(place.queue.name, handler, Lane.ONLINE)
    await whole.publish(place.envelope(), Lane.ONLINE)
    await asyncio.wait_for(begun.wait(), PATIENCE)
    proxy.cut()
    await until_connected(broken, place)
    go.set()
    async with asyncio.timeout(PATIENCE):
        assert [await ended.get(), await ended.get()] == [False, True]


async def test_publishing_into_a_cut_says_disconnected_and_never_cancelled(
    broken: RabbitBroker, proxy: Proxy, place: Place
):
    """At every stage of the connection's end; afterwards it goes through again."""
    await broken.declare(place.queue)
    answers = []

    async def send() -> None:
        try:
            await broken.publish(place.envelope(bytes(200_000)), Lane.BULK)
        except BaseException as error:
            answers.append(error)
            raise

    tasks = [asyncio.create_task(send()) for _ in range(50)]
    await asyncio.sleep(0.005)
    proxy.cut(refuse=True)
    await asyncio.wait(tasks, timeout=PATIENCE)
    tasks.append(asyncio.create_task(send()))
    await asyncio.wait(tasks, timeout=PATIENCE)
    assert answers
    assert {type(each) for each in answers} == {Disconnected}
    proxy.refusing = False
    await until_connected(broken, place)
    await broken.delete(place.queue.name)


async def test_declaring_and_consuming_on_a_dying_connection_says_what_it_is_and_never_cancelled(
    broken: RabbitBroker, proxy: Proxy, place: Place
):
    """A task that is cancelled by nobody it knows of would leave its job without an end."""
    await broken.declare(place.queue)
    places = [Place() for _ in range(6)]

    async def open_one(one: Place) -> None:
        await broken.declare(one.queue)
        await broken.consume(one.queue.name, Inbox(), Lane.BULK if one.token < "8" else Lane.ONLINE)

    tasks = [asyncio.create_task(open_one(one)) for one in places]
    await asyncio.sleep(0.004)
    proxy.stall()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    proxy.flow()
    assert {type(answer) for answer in answers if answer is not None} == {Disconnected}
    await until_connected(broken, place)
    await asyncio.gather(*(broken.delete(one.queue.name) for one in (place, *places)))


async def test_publishing_that_is_given_up_while_its_message_comes_back_costs_nobody_else_anything(
    whole: RabbitBroker, place: Place
):
    """As at the end of each job, whose last words reach parties that have left: all others share the connection."""
    await whole.declare(place.queue)
    for pause in range(60):
        lost = [
            asyncio.create_task(whole.publish(place.envelope(routing_key="nowhere"), Lane.ONLINE)) for _ in range(20)
        ]
        await asyncio.sleep(pause / 10_000)
        for task in lost:
            task.cancel()
        answers = await asyncio.gather(*lost, return_exceptions=True)
        assert {type(answer) for answer in answers} <= {asyncio.CancelledError, Unroutable}
        async with asyncio.timeout(PATIENCE):
            await whole.publish(place.envelope(), Lane.ONLINE)
    assert whole.reconnects == 0
    await whole.delete(place.queue.name)


async def test_a_stalled_connection_is_given_up_by_heartbeat(
    broken: RabbitBroker, whole: RabbitBroker, proxy: Proxy, place: Place
):
    """The waiting publish is told, as a lost connection and not as a cancellation."""
    inbox, _ = await open_queue(broken, place)
    proxy.stall()
    publishing = asyncio.create_task(broken.publish(place.envelope(), Lane.ONLINE))
    await asyncio.wait([publishing], timeout=20.0)
    assert isinstance(publishing.exception(), Disconnected)
    proxy.cut()
    proxy.flow()
    await until_connected(whole, place)
    await inbox.holds(1)


async def test_an_outbox_loses_nothing_over_cuts(broken: RabbitBroker, whole: RabbitBroker, proxy: Proxy, place: Place):
    """Two hundred envelopes, three cuts: all arrive, some perhaps twice."""
    inbox, _ = await open_queue(whole, place)
    await broken.declare_exchange(place.exchange)
    outbox = Outbox(broken, max_bytes=500_000)
    for number in range(200):
        body = b"%d " % number + bytes(20_000)
        await outbox.post(place.envelope(body), Lane.BULK, deadline=60.0, name="step")
        if number in (50, 100, 150):
            proxy.cut()
    await outbox.drain(60.0)
    assert not outbox.failed.done()
    await settled(whole)
    assert {int(body.split(b" ")[0]) for body in inbox.bodies} == set(range(200))
    assert outbox.sent["control"].messages == 200
    await outbox.close()


async def test_a_queue_that_is_taken_while_we_are_away_is_taken_back_later(
    broken: RabbitBroker, whole: RabbitBroker, proxy: Proxy, place: Place
):
    """The restored consumer waits for the other one to go, and does not disturb its neighbours."""
    inbox, neighbour = Inbox(), Inbox()
    beside = Queue(place.queue.name + ".beside", ((place.exchange, "beside"),))
    for queue, handler in ((place.queue, inbox), (beside, neighbour)):
        await broken.declare(queue)
        await broken.consume(queue.name, handler, Lane.ONLINE)
    proxy.cut(refuse=True)
    attempt = partial(whole.consume, place.queue.name, Inbox(settle=False), Lane.ONLINE)
    usurper = await until_done(attempt, Occupied)
    proxy.refusing = False
    await whole.publish(place.envelope(routing_key="beside"), Lane.ONLINE)
    await neighbour.holds(1)
    await usurper.cancel()
    await whole.publish(place.envelope(), Lane.ONLINE)
    await inbox.holds(1)
    await broken.delete(beside.name)


async def test_a_queue_that_an_operator_deletes_is_declared_anew(whole: RabbitBroker, amqp_url: str, place: Place):
    """Its consumer goes on."""
    inbox, _ = await open_queue(whole, place)
    operator = await RabbitBroker.connect(amqp_url, name="operator")
    await operator.delete(place.queue.name)
    await operator.close()
    await until_done(partial(whole.publish, place.envelope(), Lane.ONLINE), Unroutable)
    await inbox.holds(1)


async def test_closing_while_the_broker_is_away_does_not_hang(amqp_url: str, proxy: Proxy, place: Place):
    """There is nobody to say goodbye to."""
    url = URL(amqp_url).with_host("127.0.0.1").with_port(proxy.port)
    broker = await RabbitBroker.connect(str(url), name="card")
    await open_queue(broker, place)
    proxy.cut(refuse=True)
    with pytest.raises(Disconnected):
        await until_disconnected(broker, place)
    await asyncio.wait_for(broker.close(), PATIENCE)


async def until_disconnected(broker: RabbitBroker, place: Place) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            await broker.publish(place.envelope(), Lane.ONLINE)
            await asyncio.sleep(0)


async def test_many_refusals_at_once_cost_no_connection(broken: RabbitBroker, proxy: Proxy, place: Place):
    """A refusal closes the channel it was asked on; neither its neighbours nor the connection notice."""
    before = proxy.accepted
    async with asyncio.TaskGroup() as group:
        for number in range(60):
            queue = Queue(f"{place.queue.name}.{number}", ((f"{place.exchange}.{number % 7}", "#"),))
            group.create_task(broken.declare(queue))
            group.create_task(expect_missing(broken, f"{place.queue.name}.none.{number}"))
    await settled(broken)
    assert proxy.accepted == before
    for number in range(60):
        await broken.delete(f"{place.queue.name}.{number}")


async def expect_missing(broker: RabbitBroker, name: str) -> None:
    with pytest.raises(NoQueue):
        await broker.consume(name, Inbox(), Lane.BULK)


async def test_two_connections_show_their_party_and_lane(rabbitmq: Node, place: Place):
    """In the management page, where an operator looks for them."""
    broker = await RabbitBroker.connect(rabbitmq.url, name="bank")
    shown = rabbitmq.evaluate("rabbit_networking:connection_info_all([client_properties])")
    await broker.close()
    assert "tercet bank online" in shown
    assert "tercet bank bulk" in shown


async def publish_first(broker: RabbitBroker, envelope: Envelope) -> None:
    """Make the exchange and publish to it; which of the two is refused depends on RabbitMQ's version."""
    await broker.declare_exchange(envelope.exchange)
    await broker.publish(envelope, Lane.ONLINE)


async def test_missing_rights_are_refused_and_named(rabbitmq: Node, place: Place):
    """What may be written, created or bound is the broker's to say; the connection goes on."""
    bank = await RabbitBroker.connect(rabbitmq.url, name="bank")
    stranger = await RabbitBroker.connect(rabbitmq.stranger_url, name="stranger")
    await bank.declare(place.queue)
    try:
        with pytest.raises(Refused, match=place.exchange):
            await stranger.publish(place.envelope(), Lane.ONLINE)
        with pytest.raises(Refused, match=place.queue.name):
            await stranger.declare(place.queue)
        with pytest.raises(Refused, match=r"tercet\.from\.nobody"):
            await publish_first(stranger, replace(place.envelope(), exchange="tercet.from.nobody"))
        with pytest.raises(Refused, match=place.queue.name):
            await stranger.consume(place.queue.name, Inbox(), Lane.ONLINE)
        await stranger.declare_exchange(place.exchange)
        await stranger.declare_exchange("stranger.exchange")
    finally:
        await stranger.close()
        await bank.close()


async def test_a_broker_that_lets_nobody_look_for_exchanges_is_used_all_the_same(
    whole: RabbitBroker, place: Place, monkeypatch: pytest.MonkeyPatch
):
    """RabbitMQ 4.2.6 and 4.3.0 refuse to look to all who may not create; the definitions give that right to nobody."""
    await whole.declare_exchange(place.exchange)
    declare = aiormq.Channel.exchange_declare

    async def refuse(channel: aiormq.Channel, name: str, *, passive: bool = False, **settings: Any) -> Any:
        if passive:
            raise aiormq.ChannelAccessRefused(f"configure access to exchange '{name}' refused")
        return await declare(channel, name, **settings)

    monkeypatch.setattr(aiormq.Channel, "exchange_declare", refuse)
    await whole.declare_exchange(place.exchange)
    await whole.declare(place.queue)
    await whole.publish(place.envelope(), Lane.ONLINE)


async def test_an_exchange_is_looked_for_only_where_one_is_missing(
    whole: RabbitBroker, place: Place, monkeypatch: pytest.MonkeyPatch
):
    """They are there but for two parties' first job; a job has ten bindings, and looking took half of its opening."""
    looked: list[str] = []
    declare = aiormq.Channel.exchange_declare

    async def look(channel: aiormq.Channel, name: str, **settings: Any) -> Any:
        looked.append(name)
        return await declare(channel, name, **settings)

    monkeypatch.setattr(aiormq.Channel, "exchange_declare", look)
    await whole.declare(place.queue)
    assert set(looked) == {place.exchange}
    looked.clear()
    await whole.declare(replace(place.queue, name=f"{place.queue.name}.again"))
    assert looked == []


async def test_a_queue_with_other_arguments_is_refused_by_name(amqp_url: str, whole: RabbitBroker, place: Place):
    """Somebody's tool has made it; what to do about it is the operator's decision."""
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        await channel.declare_queue(place.queue.name, durable=True, arguments={"x-max-length": 5})
    with pytest.raises(Refused, match=rf"{place.queue.name}.*x-"):
        await whole.declare(place.queue)
    await whole.delete(place.queue.name)
    await whole.declare(place.queue)


async def test_a_wrong_password_is_refused_at_once_and_never_shown(amqp_url: str):
    """Neither in the text nor in the causes."""
    with pytest.raises(Refused, match=r"amqp://.*refused the login of 'mallory'") as refused:
        await RabbitBroker.connect(amqp_url, name="bank", credentials=("mallory", "s3cret"), deadline=30.0)
    reported = all_texts(refused.value)
    assert "s3cret" not in reported
    assert (URL(amqp_url).password or "guest") not in reported


@pytest.mark.parametrize("vhost", ["nosuch", "other"])
async def test_a_virtual_host_that_is_not_ours_is_named_with_what_rabbitmq_says(rabbitmq: Node, vhost: str):
    """It is missing, or we may not into it; at once."""
    if vhost == "other":
        rabbitmq.call("rabbit_vhost:add", vhost, "tests")
    with pytest.raises(Refused, match=rf"virtual host '{vhost}' \(530 NOT_ALLOWED - .*{vhost}") as refused:
        await RabbitBroker.connect(str(URL(rabbitmq.url).with_path(f"/{vhost}")), name="bank", deadline=30.0)
    assert not isinstance(refused.value, NoLogin)
    assert rabbitmq.password not in all_texts(refused.value)


async def test_a_broker_that_is_late_is_waited_for_and_one_that_never_comes_is_named():
    """Host and port, not the password; in the time that was given."""
    (port,) = free_ports(1)
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    with pytest.raises(Disconnected, match=rf"amqp://127\.0\.0\.1:{port} ") as reported:
        await RabbitBroker.connect(
            f"amqp://bank:s3cret@127.0.0.1:{port}/", name="bank", deadline=5.0, clock=lambda: sum(slept), sleep=sleep
        )
    assert "s3cret" not in all_texts(reported.value)
    assert sum(slept) <= 5.0


def all_texts(error: BaseException | None) -> str:
    """What the exception and its causes say."""
    return "" if error is None else f"{error} {error!r} {all_texts(error.__cause__)} {all_texts(error.__context__)}"


@pytest.mark.parametrize("url", ["http://localhost/", "localhost:5672", "amqp:///"])
async def test_an_address_that_is_none_is_said_so(url: str):
    """Before anything is tried."""
    with pytest.raises(ValueError, match="amqp://HOST"):
        await RabbitBroker.connect(url, name="bank")


async def test_a_broker_that_is_killed_keeps_what_is_persistent_and_consumers_come_back(rabbitmq: Node, place: Place):
    """The outbox bridges the gap. It is the run's own node, which nobody else uses meanwhile."""
    inbox, standing = Inbox(), Place()
    broker = await RabbitBroker.connect(rabbitmq.url, name="card")
    for where in (place, standing):
        await broker.declare(where.queue)
    await broker.consume(place.queue.name, inbox, Lane.ONLINE)
    await broker.publish(standing.envelope(b"persistent", persistent=True), Lane.ONLINE)
    outbox = Outbox(broker)
    await asyncio.to_thread(rabbitmq.kill)
    await outbox.post(place.envelope(b"bridged"), Lane.ONLINE, deadline=60.0, name="step")
    await asyncio.to_thread(rabbitmq.start)
    await outbox.drain(60.0)
    await inbox.holds(1)
    stored = await next_inbox(broker, standing)
    assert (inbox.bodies, stored.bodies) == ([b"bridged"], [b"persistent"])
    await outbox.close()
    await broker.close()
