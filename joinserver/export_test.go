package joinserver

// Accept lets tests encode claims that no band plan group would make.
func (h *Handler) Accept(c Claim, g Grant) ([]byte, error) { return h.accept(c, g) }
