package doctor

// Policyd is what was found of policyd. In the zero value nothing was looked at.
type Policyd struct{}

// policyd judges it.
func (r *report) policyd() { r.subject = "policyd" }

func policydKinds() map[Check]Kind { return nil }
