"""Losses that more than one recipe uses."""
import torch.nn.functional as F

SOFTNESS = 2.  # temperature at which student and teacher are compared


def taught(scores, y, teacher, smoothing, share=.5):
    """Cross-entropy, half of it against the base's softened answer (Hinton et al., 2015)."""
    scores = scores.float()
    hard = F.cross_entropy(scores, y, label_smoothing=smoothing)
    soft = F.kl_div(F.log_softmax(scores / SOFTNESS, 1), F.log_softmax(teacher / SOFTNESS, 1),
                    reduction="batchmean", log_target=True)
    return (1 - share) * hard + share * SOFTNESS ** 2 * soft
