package doctor

import (
	"context"

	"tlsverdict/internal/program"
)

// Exim is what was found of Exim. In the zero value there is none.
type Exim struct{}

// lookExim asks the Exim of a machine.
func lookExim(context.Context, program.Machine) Exim { return Exim{} }

// exim judges it.
func (r *report) exim() {}

func eximKinds() map[Check]Kind { return nil }
