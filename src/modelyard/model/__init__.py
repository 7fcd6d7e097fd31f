"""Models: network, checkpoints, training, inference, conversion, plans, and a model as it is asked."""

import warnings

# what libraries say of optional parts that are not here, at every import
warnings.filterwarnings("ignore", ".*(Apex|Transformer Engine|torch.distributed is disabled|full scope is deprecated).*", UserWarning)
warnings.filterwarnings("ignore", category=FutureWarning, module=r"(megatron|torch)\.")  # what they call of each other
