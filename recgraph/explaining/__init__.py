"""Why a model recommends an item, in numbers and as a picture."""
