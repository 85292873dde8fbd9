package doctor

import (
	"context"

	"tlsverdict/internal/program"
)

// Sendmail is what was found of Sendmail. In the zero value there is none.
type Sendmail struct{}

// lookSendmail asks the Sendmail of a machine.
func lookSendmail(context.Context, program.Machine) Sendmail { return Sendmail{} }

// sendmail judges it.
func (r *report) sendmail() {}

func sendmailKinds() map[Check]Kind { return nil }
