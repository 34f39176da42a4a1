"""Models on devices: plain classes with `run(list of records) -> list of results`.

The batch pipeline, the online endpoint and the tests share them; none of them knows Ray.
"""
