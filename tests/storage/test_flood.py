from storage.changes import Acted, Exposed
from tests.storage.plain import StoreFactory

NUM_IMPRESSIONS = 1_000
NUM_ITEMS = 1_000
NUM_ACTIONS = 50


def test_a_flood_of_impressions_leaves_a_users_actions_readable(store_factory: StoreFactory) -> None:
    """One client that shows too much pushes what its user did out of the sequence."""
    store = store_factory(cap=2_048, sample_every=1_000, sample_exposures=512)
    store.apply(
        0, NUM_ACTIONS - 1, [Acted(offset, "ada", offset, 0, f"liked{offset}", 0) for offset in range(NUM_ACTIONS)]
    )
    for start in range(NUM_ACTIONS, NUM_ACTIONS + NUM_IMPRESSIONS, 20):
        shown = [
            Exposed(offset, "ada", 10_000 + offset, 0, [f"{offset}-{item}" for item in range(NUM_ITEMS)])
            for offset in range(start, start + 20)
        ]
        store.apply(start, start + 19, shown)
        store.acknowledge([key for key, _ in store.outbox(1_000)])
    events = store.read("ada")
    acted = [item for item, mask in zip(events.item_ids, events.actions.tolist(), strict=True) if mask]
    assert acted == [f"liked{offset}" for offset in range(NUM_ACTIONS)]
    assert 2_048 <= len(events) < 2 * 2_048 + NUM_ITEMS
    assert store.read("ada", last=10).item_ids == [f"{NUM_ACTIONS + NUM_IMPRESSIONS - 1}-{i}" for i in range(990, 1000)]
