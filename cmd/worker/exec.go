package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	heddle "github.com/heddle-io/heddle/sdk"
)

// command is the arguments of a job of kind exec.
type command struct {
	// Program is a name given to --allow-exec; paths are refused.
	Program string            `json:"program"`
	Args    []string          `json:"args,omitempty"`
	Stdin   string            `json:"stdin,omitempty"`
	Env     map[string]string `json:"env,omitempty"` // added to PATH, HOME and LANG
	Timeout duration          `json:"timeout,omitempty"`
}

// output is the result of a job of kind exec.
type output struct {
	Stdout    string `json:"stdout,omitempty"`
	Stderr    string `json:"stderr,omitempty"`
	Truncated bool   `json:"truncated,omitempty"` // more than 256 KiB of either
	Millis    int64  `json:"ms"`
}

var execKind = heddle.NewKind[json.RawMessage, output]("exec")

// programs are what exec jobs may run: names and absolute paths.
type programs map[string]string

func (p programs) allow(text string) error {
	for item := range strings.SplitSeq(text, ",") {
		name, path, ok := strings.Cut(item, "=")
		if !ok || name == "" || !filepath.IsAbs(path) {
			return fmt.Errorf("%q is not name=/absolute/path", item)
		}
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		if info.IsDir() || info.Mode()&0o111 == 0 {
			return fmt.Errorf("%s is not a program", path)
		}
		p[name] = path
	}
	return nil
}

// run runs one program without a shell. An exit code other than 0 is a
// failure that is retried; a program that is not on the list is not. When the
// job is cancelled or its time is up the program's whole process group ends.
func (p programs) run(ctx context.Context, c command) (output, error) {
	path, ok := p[c.Program]
	if !ok {
		names := make([]string, 0, len(p))
		for name := range p {
			names = append(names, name)
		}
		slices.Sort(names)
		return output{}, heddle.NoRetry(fmt.Errorf("program: %q is not allowed here, only %s", c.Program, strings.Join(names, ", ")))
	}
	if c.Timeout < 0 {
		return output{}, heddle.NoRetry(fmt.Errorf("timeout: %v is negative", time.Duration(c.Timeout)))
	}
	ctx, cancel := c.Timeout.within(ctx)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, c.Args...)
	endGroup(cmd)
	cmd.WaitDelay = 5 * time.Second
	cmd.Stdin = strings.NewReader(c.Stdin)
	for _, name := range []string{"PATH", "HOME", "LANG"} {
		if value, ok := os.LookupEnv(name); ok {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	for name, value := range c.Env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	var stdout, stderr head
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	start := time.Now()
	err := cmd.Run()
	out := output{Stdout: stdout.text(), Stderr: stderr.text(), Truncated: stdout.more || stderr.more, Millis: time.Since(start).Milliseconds()}
	var exit *exec.ExitError
	switch {
	case err == nil:
		return out, nil
	case ctx.Err() != nil:
		return out, fmt.Errorf("%s: %w", c.Program, context.Cause(ctx))
	case errors.As(err, &exit) && out.Stderr == "":
		return out, fmt.Errorf("%s: %w", c.Program, err)
	case errors.As(err, &exit):
		return out, fmt.Errorf("%s: %w: %s", c.Program, err, excerpt(out.Stderr))
	}
	return out, heddle.NoRetry(fmt.Errorf("%s: %w", c.Program, err))
}

// head keeps the first 256 KiB written to it.
type head struct {
	buf  bytes.Buffer
	more bool
}

func (h *head) Write(p []byte) (int, error) {
	room := bodyLimit - h.buf.Len()
	if len(p) > room {
		h.more = true
		h.buf.Write(p[:room])
		return len(p), nil
	}
	return h.buf.Write(p)
}

func (h *head) text() string { return strings.ToValidUTF8(h.buf.String(), "\uFFFD") }
