"""The verb `roadloop sim live`: the whole car, as processes, in a simulated world on the clock."""

from typing import Annotated

import typer

from vehicle.drive_options import (
    BundleOption,
    GatewayOption,
    OffboardOption,
    RealTimeOption,
    ShadowOption,
)


def live(
    car: Annotated[
        str, typer.Option(help="Whose drive this is; its folder is ROADLOOP_HOME.")
    ] = "car-1",
    town: Annotated[int, typer.Option(help="Town number; 16..19 are the demo fleet's.")] = 16,
    seed: Annotated[int, typer.Option(help="Traffic, route and light.")] = 0,
    light: Annotated[str, typer.Option(help="day, dusk or night.")] = "day",
    weather: Annotated[str, typer.Option(help="See `roadloop sim drive`.")] = "clear",
    family: Annotated[
        str, typer.Option(help="Scenario family, see `roadloop sim families`.")
    ] = "town_drive",
    rate: Annotated[
        float, typer.Option(help="Frames per second; drawing one takes two ticks' time.")
    ] = 10.0,
    seconds: Annotated[float, typer.Option(help="How long.")] = 60.0,
    bundle: BundleOption = None,
    shadow: ShadowOption = None,
    gateway: GatewayOption = "",
    offboard: OffboardOption = "",
    real_time: RealTimeOption = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Run the whole car in a simulated world on the clock: loop, recorder, shadow, uplink.

    As `roadloop vehicle drive`, but the world answers to the car's commands. The world is drawn
    between ticks, in the loop's process; a machine that cannot draw at --rate loses frames, and
    they are counted.
    """
    from sim.run.live import LiveWorld
    from vehicle import drive_verb
    from vehicle.contracts import wire

    world = LiveWorld(
        town=town, seed=seed, light=light, weather=weather, family=family, rate_hz=rate
    )
    request = drive_verb.request_for(
        source=wire.to_bytes(world).decode(),
        car=car,
        bundle=bundle,
        shadow=shadow,
        gateway=gateway,
        offboard=offboard,
        campaign=None,
        rate_hz=rate,
        seconds=seconds,
        real_time=real_time,
        adapt=True,
    )
    drive_verb.run_and_print(request, as_json=as_json, module="sim.run.live")
