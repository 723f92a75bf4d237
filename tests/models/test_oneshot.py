"""Single Path One-Shot: the super-network, its costs, the weights that it hands on, and the search."""
import random

import pytest
import torch
from sample_training import SHORT, few_digits, same_weights
from torch import nn

import lwcourse as lw
from lwcourse.layers import ReleasedShuffleUnit, SlimShuffleUnit, recalibrate
from lwcourse.models.shufflenet_v2_oneshot import (
    KINDS,
    SCALES,
    SEARCHED,
    STAGES,
    Choice,
    Costs,
    OneShotSuperNet,
    Stage,
    hidden_channels,
    search,
)
from lwcourse.verify import randomise_statistics, relative_error

SMALL = {"stages": (Stage(16, 2), Stage(32, 2)), "scales": (0.5, 1.0, 1.5), "stem_channels": 8, "features": 24}


@pytest.fixture
def supernet() -> OneShotSuperNet:
    """Two stages of two places with 12 choices each, for images of 1 channel."""
    torch.manual_seed(0)
    network = OneShotSuperNet(5, 1, **SMALL)
    randomise_statistics(network)
    return network.eval()


@pytest.fixture
def images() -> list[torch.Tensor]:
    torch.manual_seed(1)
    return [torch.randn(6, 1, 16, 12) + 1 for _ in range(2)]


def some_paths(supernet: OneShotSuperNet, count: int) -> list:
    """Random ones, and each choice in every place."""
    generator = random.Random(0)
    places = len(supernet.choices)
    return [*((option,) * places for option in supernet.options),
            *(tuple(generator.choice(supernet.options) for _ in range(places)) for _ in range(count))]


# Layout

def test_hidden_channels_are_the_official_codes():
    for stage in STAGES:
        for scale in SCALES:
            assert hidden_channels(stage.channels, scale) == int(stage.channels // 2 * scale)
    assert hidden_channels(10, 0.6) == 3 and hidden_channels(6, 0.2) == 1


@pytest.mark.parametrize(("architecture", "words"), [
    (SEARCHED[:19], "must have 20 choices, one a block, got 19"),
    (((4, 1.0), *SEARCHED[1:]), "a kind from 0 to 3 and a positive scale, got 4, 1.0"),
    (((0, 0.0), *SEARCHED[1:]), "a kind from 0 to 3 and a positive scale, got 0, 0.0"),
])
def test_an_architecture_that_cannot_be_is_refused(architecture, words):
    with pytest.raises(ValueError, match=words):
        lw.create_model("shufflenet_v2_oneshot", architecture=architecture)


def test_another_architecture_can_be_built():
    network = lw.create_model("shufflenet_v2_oneshot", 7, architecture=[(3, 0.2)] * 20).eval()
    assert network(torch.zeros(1, 3, 32, 45)).shape == (1, 7)
    assert all(len(block.branch) == 6 for block in network.blocks) and network.blocks[0].hidden == 6
    assert network.architecture == (Choice(3, 0.2),) * 20


def test_the_papers_supernet_holds_the_searched_network():
    supernet = OneShotSuperNet(3)
    assert len(supernet.choices) == 20 and len(supernet.options) == 32
    network = supernet.inherit(SEARCHED)
    assert supernet.costs(224, 224).of(SEARCHED) == lw.profile(network, (3, 224, 224)).macs
    assert supernet.costs(224, 224).of(SEARCHED) == 327_857_920 - 997 * 1024  # 3 classes rather than 1000


# Weights

@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_slim_unit_equals_one_of_that_width(kind, stride):
    torch.manual_seed(0)
    slim = SlimShuffleUnit(8, 8 * stride, stride, hidden=9, **kind).double().eval()
    randomise_statistics(slim)
    x = torch.randn(2, 8, 7, 10, dtype=torch.float64)
    for hidden in (1, 4, 9):
        plain = ReleasedShuffleUnit(8, 8 * stride, stride, hidden=hidden, **kind).double().eval()
        slim.copy_to(plain)
        assert relative_error(slim(x, hidden), plain(x)) < 1e-12
        assert slim.macs(hidden, 7, 10) == lw.profile(plain, (8, 7, 10)).macs
        slim.train(), plain.train()
        assert relative_error(slim(x, hidden), plain(x)) < 1e-12  # and the statistics move alike
        slim.eval(), plain.eval()
        assert relative_error(slim(x, hidden), plain(x)) < 1e-12


@pytest.mark.parametrize("hidden", [0, 10])
def test_a_slim_unit_has_no_more_channels_than_its_own(hidden):
    with pytest.raises(ValueError, match=f"hidden must be from 1 to 9, got {hidden}"):
        SlimShuffleUnit(8, 8, 1, hidden=9)(torch.zeros(1, 8, 4, 4), hidden)


def test_an_inherited_network_equals_its_path(supernet, images):
    supernet.double()
    for path in some_paths(supernet, 5):
        supernet.choose(path)
        network = supernet.inherit(path)
        with torch.no_grad():
            expected = supernet(images[0].double())
            assert relative_error(network(images[0].double()), expected) < 1e-12
    with torch.no_grad():
        for value in network.state_dict().values():
            value.zero_()  # a copy: the super-network keeps its weights
        assert torch.equal(supernet(images[0].double()), expected)


def test_inheriting_leaves_the_random_numbers_alone(supernet):
    torch.manual_seed(3)
    supernet.inherit(supernet.architecture)
    found = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(found, torch.rand(1))


def test_a_path_that_is_not_in_the_supernet_is_refused(supernet):
    path = supernet.architecture
    for use in (supernet.choose, supernet.inherit):
        with pytest.raises(ValueError, match=r"has the scales \[0.5, 1.0, 1.5\], got \[0.7, 1.0\]"):
            use([(0, 0.7), *path[1:]])
        with pytest.raises(ValueError, match="must have 4 choices, one a block, got 3"):
            use(path[1:])
    assert supernet.architecture == path == (Choice(0, 1.0),) * 4
    for scales in ((), (0.0, 1.0)):
        with pytest.raises(ValueError, match="scales must hold positive numbers"):
            OneShotSuperNet(scales=scales)


# Paths

def test_paths_are_sampled_uniformly(supernet):
    torch.manual_seed(0)
    paths = [supernet.sample() for _ in range(2400)]
    for place in range(4):
        counts = [sum(path[place] == option for path in paths) for option in supernet.options]
        assert len(counts) == 12 and all(150 < count < 250 for count in counts)  # 200, with a spread of 14
    assert len(set(paths)) > 2000  # of 20,736: places are drawn one by one


def test_training_runs_one_random_path_and_eval_the_chosen_one(supernet, images):
    x = images[0]
    supernet.train()
    torch.manual_seed(0)
    path = supernet.sample()
    torch.manual_seed(0)
    supernet(x).square().sum().backward()
    for units, choice in zip(supernet.choices, path, strict=True):
        for kind, unit in enumerate(units):
            assert all((p.grad is not None) == (kind == choice.kind) for p in unit.parameters())
        hidden = hidden_channels(units[0].out_channels, choice.scale)
        layer = units[choice.kind].branch[1]  # depthwise, or in the fourth kind the first 1x1
        assert layer.conv.weight.grad[:hidden].abs().sum() > 0 and not layer.conv.weight.grad[hidden:].any()
    supernet.eval()
    with torch.no_grad():
        assert torch.equal(supernet(x), supernet(x))
        before = supernet(x)
        supernet.choose(path)
        assert not torch.equal(supernet(x), before)


def test_it_trains_with_fit():
    data = few_digits()
    trained = []
    for _ in range(2):
        torch.manual_seed(0)
        supernet = OneShotSuperNet(10, 1, **SMALL)
        before = {key: value.clone() for key, value in supernet.named_parameters()}
        lw.fit(supernet, data, epochs=1, seed=0, **SHORT)
        trained.append(supernet)
    assert same_weights(*trained)
    moved = [key for key, value in supernet.named_parameters() if not torch.equal(value, before[key])]
    assert len({key.split(".")[2] for key in moved if key.startswith("choices")}) == 4  # all kinds had their turn


# Costs

@pytest.mark.parametrize("size", [(16, 12), (17, 9), (32, 32)])
def test_costs_are_those_of_the_built_networks(supernet, size):
    costs = supernet.costs(*size)
    counted = {}
    for path in some_paths(supernet, 4):
        supernet.choose(path)
        counted[path] = lw.profile(supernet.inherit(path), (1, *size)).macs
        assert costs.of(path) == counted[path] == lw.profile(supernet, (1, *size)).macs
    assert costs.least() <= min(counted.values())
    cheapest = tuple(min(table, key=table.get) for table in costs.choices)
    assert costs.least() == costs.of(cheapest) and len(set(counted.values())) > 8


# Search

class Space:
    """What `search` asks of a super-network, without weights: 12 places of 6 choices; a path is its own network."""
    architecture = ()
    options = tuple(Choice(kind, scale) for kind in range(2) for scale in (0.5, 1.0, 1.5))

    def costs(self, height: int, width: int) -> Costs:
        return Costs(100, tuple({option: 10 + place * option.kind + int(8 * option.scale) for option in self.options}
                                for place in range(12)))

    def inherit(self, path) -> nn.Module:
        network = nn.Identity()
        network.path = path
        return network


def alternating(network: nn.Module) -> float:
    """Best with kinds 0, 1, 0, 1, ... and the middle scale."""
    return sum((kind == place % 2) + (scale == 1.0) for place, (kind, scale) in enumerate(network.path))


IMAGES = [torch.zeros(1, 1, 8, 8)]


def test_no_path_that_is_evaluated_is_over_budget():
    costs = Space().costs(8, 8)
    for budget in (costs.least(), costs.least() + 7, costs.least() + 30, 10**6):
        found = search(Space(), alternating, budget, IMAGES, population=20, generations=5, parents=4)
        assert all(costs.of(path) <= budget for path in found.scores)
        assert found.macs == costs.of(found.architecture) <= budget
        assert found.score == max(found.scores.values()) == found.scores[found.architecture]
    assert len(found.scores) == 100  # with room, every generation is full


def test_evolution_finds_better_than_chance():
    budget = Space().costs(8, 8).least() + 60
    for seed in range(5):
        evolved = search(Space(), alternating, budget, IMAGES, population=20, generations=20, parents=5, seed=seed)
        at_random = search(Space(), alternating, budget, IMAGES, population=400, generations=1, seed=seed)
        assert len(evolved.scores) <= len(at_random.scores) == 400
        assert evolved.score > at_random.score


def test_one_seed_makes_one_search():
    def run(seed):
        random.seed(seed + 10)  # the search has a generator of its own
        torch.manual_seed(seed + 10)
        return search(Space(), alternating, 10**6, IMAGES, population=6, generations=3, seed=seed)
    first = run(0)
    again = search(Space(), alternating, 10**6, IMAGES, population=6, generations=3, seed=0)
    assert first == again and list(first.scores) == list(again.scores)
    assert list(first.scores) != list(run(1).scores)


def test_the_numbers_of_the_paper_are_the_defaults():
    evaluated = []
    search(Space(), lambda network: evaluated.append(network.path) or 0.0, 10**6, IMAGES)
    assert len(evaluated) == len(set(evaluated)) == 20 * 50


def test_the_smallest_budget_leaves_the_smallest_path():
    least = Space().costs(8, 8).least()
    found = search(Space(), alternating, least, IMAGES, population=4, generations=3)
    # the first place costs the same for both kinds: two paths are the smallest
    assert found.macs == least and {path[1:] for path in found.scores} == {(Choice(0, 0.5),) * 11}
    with pytest.raises(ValueError, match=f"no path has {least - 1} MACs or fewer: the smallest has {least}"):
        search(Space(), alternating, least - 1, IMAGES)


def test_mutation_and_parents_are_used():
    options = {"population": 6, "generations": 5, "parents": 1}
    still = search(Space(), alternating, 10**6, IMAGES, mutation=0.0, **options)
    assert len(still.scores) == 6  # one crossed with itself and not mutated makes nothing new
    moved = search(Space(), alternating, 10**6, IMAGES, mutation=0.1, **options)
    assert len(moved.scores) == 30


@pytest.mark.parametrize("options", [{"population": 0}, {"generations": 0}, {"parents": 0}, {"mutation": 1.5}])
def test_bad_settings_are_refused(options):
    with pytest.raises(ValueError, match="must be at least 1 and mutation between 0 and 1, got .*(0|1.5)"):
        search(Space(), alternating, 10**6, IMAGES, **options)


def large_kernels(network: nn.Module) -> float:
    """A score that needs no data: more for larger kernels and for more hidden channels."""
    return sum(block.branch[1].conv.kernel_size[0] + 0.1 * block.hidden for block in network.blocks)


def test_search_in_a_supernet(supernet, images):
    costs = supernet.costs(16, 12)  # of the images' size
    budget = (costs.least() + costs.of(((0, 1.0),) * 4)) // 2
    found = search(supernet, large_kernels, budget, images, population=8, generations=3, parents=4)
    network = supernet.inherit(found.architecture)
    assert found.score == large_kernels(network) == max(found.scores.values())
    assert found.macs == lw.profile(network, (1, 16, 12)).macs <= budget
    with pytest.raises(ValueError, match=f"the smallest has {costs.least():,}"):
        search(supernet, large_kernels, costs.least() - 1, images)


def test_search_leaves_the_supernet_as_it_was(supernet, images):
    before = {key: value.clone() for key, value in supernet.state_dict().items()}
    supernet.train()
    architecture, state = supernet.architecture, (torch.get_rng_state(), random.getstate())
    search(supernet, large_kernels, 10**9, images, population=4, generations=2)
    assert supernet.training and supernet.architecture == architecture
    assert all(torch.equal(value, before[key]) for key, value in supernet.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state[0]) and random.getstate() == state[1]


def test_candidates_come_with_statistics_of_their_own(supernet, images):
    seen = []

    def evaluate(network):
        assert not network.training and not any(module.training for module in network.modules())
        expected = supernet.inherit(network.architecture)
        inherited = expected.blocks[3].branch[-1].bn.running_mean.clone()
        recalibrate(expected, images)
        found = network.blocks[3].branch[-1].bn.running_mean
        assert torch.equal(found, expected.blocks[3].branch[-1].bn.running_mean) and not torch.equal(found, inherited)
        seen.append(network.architecture)
        return 0.0
    found = search(supernet, evaluate, 10**9, images, population=3, generations=2)
    assert seen == list(found.scores) and len(set(seen)) == 6  # none twice


def test_a_space_that_runs_out_ends_the_search(images):
    supernet = OneShotSuperNet(5, 1, stages=(Stage(8, 1),), scales=(1,), stem_channels=4, features=8)
    found = search(supernet, large_kernels, 10**9, images, population=50, generations=4)
    assert len(found.scores) == 4


# New statistics

def test_recalibrated_statistics_are_the_mean_of_the_batches():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm2d(3, momentum=0.3), nn.Dropout(0.5), nn.BatchNorm2d(3))
    network[1].eval()
    modes = [module.training for module in network.modules()]
    batches = [2 + 3 * torch.randn(5, 3, 4, 4) for _ in range(3)]
    state = torch.get_rng_state()
    recalibrate(network, batches)
    mean = torch.stack([batch.mean((0, 2, 3)) for batch in batches]).mean(0)
    spread = torch.stack([batch.var((0, 2, 3)) for batch in batches]).mean(0)
    assert torch.allclose(network[1].running_mean, mean) and torch.allclose(network[1].running_var, spread)
    assert network[3].running_mean.abs().max() < 1e-5  # of what the first made of the batches
    assert [module.training for module in network.modules()] == modes and network[1].momentum == 0.3
    assert torch.equal(torch.get_rng_state(), state)  # no dropout


def test_recalibration_needs_images():
    with pytest.raises(ValueError, match="needs a batch of images"):
        recalibrate(nn.BatchNorm2d(3), [])
