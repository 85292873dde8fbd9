package differential

// explanation is a kind of difference that is known, and why ours is right.
type explanation struct {
	name string
	// peer is the other one; "": both.
	peer string
	ours worth
	them worth
	// cite is the section that ours follows.
	cite string
	why  string
	// applies reports whether a case is of the kind; nil: any.
	applies func(c comparison) bool
}

// comparison is one question as two validators answered it.
type comparison struct {
	in   *internet
	sp   *specimen
	q    question
	peer string
	ours said
	them said
	true truth
}

// explanations are tried in this order; docs/dnssec.md has the same rows.
func explanations() []explanation {
	return nil
}

// explain returns the explanation of a difference, or nil.
func explain(c comparison) *explanation {
	for _, e := range explanations() {
		if (e.peer == "" || e.peer == c.peer) && e.ours == c.ours.worth && e.them == c.them.worth && (e.applies == nil || e.applies(c)) {
			return &e
		}
	}
	return nil
}
