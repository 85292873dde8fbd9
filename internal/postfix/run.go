package postfix

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"time"
)

const (
	// runTime is how long one run of postconf may take; it takes 10 ms.
	runTime = 5 * time.Second
	// maxOutput bounds what is kept of each of its two outputs, in bytes.
	maxOutput = 64 << 10
)

// errOutput: a program wrote more than anything that was asked for can be.
var errOutput = errors.New("it writes too much")

// run runs a program with an environment that cannot lead it to another
// configuration than the host's.
func run(ctx context.Context, program string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, runTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = []string{"LC_ALL=C", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.Dir = "/"
	cmd.WaitDelay = time.Second
	var out, said bounded
	cmd.Stdout, cmd.Stderr = &out, &said
	err := cmd.Run()
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil && len(said.Bytes()) == 0:
		return nil, fmt.Errorf("%w: %w", ErrSilent, err)
	case err != nil:
		first, _, _ := bytes.Cut(said.Bytes(), []byte("\n"))
		return nil, fmt.Errorf("%w: %.200q", err, first)
	}
	return out.Bytes(), nil
}

// bounded is a buffer that takes maxOutput bytes. (Not by embedding: io.Copy would
// go around it.)
type bounded struct{ buffer bytes.Buffer }

// Write implements io.Writer.
func (b *bounded) Write(p []byte) (int, error) {
	if b.buffer.Len()+len(p) > maxOutput {
		return 0, errOutput
	}
	return b.buffer.Write(p)
}

// Bytes is what was written.
func (b *bounded) Bytes() []byte { return b.buffer.Bytes() }
