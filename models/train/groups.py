"""Which classes go together: every way of dividing them is tried, so that no search can get stuck."""
import torch


def sizes(classes, groups):
    """As even as can be, large groups first: 10 in 4 is 3, 3, 2, 2."""
    return [classes // groups + (g < classes % groups) for g in range(groups)]


def divisions(classes, sizes):
    """Every division of `classes` (a tuple) into unordered groups of these sizes (sorted, large first)."""
    if not sizes:
        yield ()
        return
    # The first class is in some group; equal sizes are tried once only, which makes groups unordered.
    first, rest = classes[0], classes[1:]
    for size in sorted(set(sizes), reverse=True):
        left = list(sizes)
        left.remove(size)
        for others in _choose(rest, size - 1):
            group = (first, *others)
            for tail in divisions(tuple(c for c in rest if c not in others), left):
                yield (group, *tail)


def _choose(items, n):
    if n == 0:
        yield ()
    else:
        for i in range(len(items) - n + 1):
            for tail in _choose(items[i + 1:], n - 1):
                yield (items[i], *tail)


def by_confusion(scores, y, groups):
    """The division that keeps together what the base takes for each other on the hold-out.

    Affinity is the mean probability that the base gives to one class for pictures of the other, both ways. Groups
    are then ordered so that 2k and 2k+1, which share lower parts of a tree, are the most alike.
    """
    classes = scores.shape[1]
    p = scores.softmax(1)
    confusion = torch.stack([p[y == c].mean(0) for c in range(classes)])
    affinity = (confusion + confusion.T).fill_diagonal_(0)
    inside = lambda group: sum(affinity[a, b].item() for a in group for b in group if a < b)
    best = max(divisions(tuple(range(classes)), sizes(classes, groups)), key=lambda d: sum(map(inside, d)))
    if groups % 2 or groups == 2:
        return [list(g) for g in best]
    between = lambda pair: sum(affinity[a, b].item() for a in best[pair[0]] for b in best[pair[1]])
    pairs = max(divisions(tuple(range(groups)), [2] * (groups // 2)), key=lambda d: sum(map(between, d)))
    return [list(best[g]) for pair in pairs for g in pair]


def by_membership(q):
    """The division nearest to soft memberships q [groups, classes], group by group: the largest sum of logs."""
    groups, classes = q.shape
    logs = q.clamp_min(1e-9).log().tolist()
    best, found = -float("inf"), None
    for division in divisions(tuple(range(classes)), sizes(classes, groups)):
        # Which part of the division is which group is an assignment problem; few groups, so try all orders.
        value = [[sum(logs[g][c] for c in part) for part in division] for g in range(groups)]
        for order in _orders(groups):
            total = sum(value[g][part] for g, part in enumerate(order))
            if total > best:
                best, found = total, [list(division[part]) for part in order]
    return found


def _orders(n):
    if n == 0:
        yield ()
        return
    for rest in _orders(n - 1):
        for at in range(n):
            yield rest[:at] + (n - 1,) + rest[at:]


def evenly(p):
    """Hard assignment of features from soft p [groups, features], equally many a group: surest first."""
    groups, features = p.shape
    room, out = [-(-features // groups)] * groups, [None] * features
    for flat in p.flatten().argsort(descending=True).tolist():
        g, k = divmod(flat, features)
        if out[k] is None and room[g]:
            out[k] = g
            room[g] -= 1
    return torch.tensor(out)
