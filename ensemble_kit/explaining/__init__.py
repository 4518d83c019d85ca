"""Why a photo got its answer: where the experts looked (Grad-CAM), and the way through the graph in plain words."""
