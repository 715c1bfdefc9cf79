"""What early exits save: one confidence threshold for all of them, chosen on the hold-out."""
import torch


def answer(scores, costs, threshold):
    """Stops at the first output whose softmax is sure enough: (the scores used, mean MACs, share per output)."""
    used, cost = scores[-1].clone(), torch.full((len(scores[-1]),), float(costs[-1]))
    where = torch.full((len(used),), len(scores) - 1)
    for e in reversed(range(len(scores) - 1)):
        sure = scores[e].softmax(1).amax(1) > threshold
        used[sure], cost[sure], where[sure] = scores[e][sure], float(costs[e]), e
    return used, cost.mean().item(), torch.bincount(where, minlength=len(scores)) / len(where)


def choose(scores, y, costs, loss=.005):
    """The lowest threshold that surely keeps accuracy within `loss` of the last output's: by two standard errors.

    The mean alone would be too bold: the hold-out is small, and the threshold that just passes on it fails elsewhere.
    """
    right = lambda z: (z.argmax(1) == y).double()
    last = right(scores[-1])
    for threshold in torch.arange(.5, 1., .01).tolist():
        used, *_ = answer(scores, costs, threshold)
        lost = last - right(used)
        if lost.mean() + 2 * lost.std() / len(y) ** .5 <= loss:
            return threshold
    return 1.


def costs(counts, exits):
    """Cumulative MACs at each exit and at the end, the heads passed on the way included; `counts` from nets.macs."""
    share = lambda prefix: sum(v for k, v in counts.items() if k.startswith(prefix))
    total, out = share("stem."), []
    for i in range(exits):
        total += share(f"stages.{i}.") + share(f"heads.{i}.")
        out.append(total)
        total += share(f"narrow.{i}.")  # a learned codec lies behind the head
    return out + [sum(counts.values())]
