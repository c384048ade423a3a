package wire

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/heddle-io/heddle/engine/model"
	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
)

// encoding of options is deterministic: the digest of a repeated submission
// must be that of the first.
var encoding = proto.MarshalOptions{Deterministic: true}

// defaults are what a submission hands down to its jobs.
type defaults struct {
	headers map[string]string
	encoded []byte // JobOptions with only the headers; nil: none
}

// newDefaults checks and encodes the headers of a submission.
func newDefaults(headers map[string]string) (defaults, error) {
	if len(headers) == 0 {
		return defaults{}, nil
	}
	if err := checkHeaders(headers); err != nil {
		return defaults{}, err
	}
	encoded, err := encoding.Marshal(&heddlev1.JobOptions{Headers: headers})
	if err != nil {
		return defaults{}, caused("headers", err)
	}
	return defaults{headers: headers, encoded: encoded}, nil
}

// job converts a job's description. It may change the options in spec.
func (l Limits) job(spec *heddlev1.JobSpec, d *defaults, out *model.Job) error {
	if err := needed("kind", spec.GetKind(), maxText); err != nil {
		return err
	}
	if err := text("queue", spec.GetQueue(), maxText); err != nil {
		return err
	}
	if err := between("priority", spec.GetPriority(), 0, 4); err != nil {
		return err
	}
	if err := text("key", spec.GetKey(), maxText); err != nil {
		return err
	}
	at, err := moment("run_at", spec.GetRunAt())
	if err != nil {
		return err
	}
	args, err := l.args(spec)
	if err != nil {
		return err
	}
	*out = model.Job{
		Kind: spec.GetKind(), Queue: spec.GetQueue(), Key: spec.GetKey(),
		Priority: int16(spec.GetPriority()), RunAt: at, Args: args,
		MaxAttempts: defaultAttempts, Opts: d.encoded,
	}
	if out.Queue == "" {
		out.Queue = defaultQueue
	}
	if spec.Options == nil {
		return nil
	}
	return Within("options", options(spec.Options, d, out))
}

// args picks the arguments of a job and checks their size.
func (l Limits) args(spec *heddlev1.JobSpec) ([]byte, error) {
	return l.either("args", spec.GetArgs(), spec.GetArgsJson())
}

// either gives what one of two fields holds: name, bytes as they are, and
// name_json, JSON as text.
func (l Limits) either(name string, raw []byte, text string) ([]byte, error) {
	if text == "" {
		return raw, l.body(name, len(raw))
	}
	field := name + "_json"
	if len(raw) > 0 {
		return nil, invalid(field, "is set beside %s; give one of them", name)
	}
	if err := l.body(field, len(text)); err != nil {
		return nil, err
	}
	body := []byte(text)
	if !json.Valid(body) {
		return nil, invalid(field, "%q is not JSON", clip(text))
	}
	return body, nil
}

// body checks the size of arguments or a result.
func (l Limits) body(field string, size int) error {
	if size > l.MaxBody {
		return invalid(field, "%d bytes are over the limit of %d", size, l.MaxBody)
	}
	return nil
}

// Result picks the result of a job, given as bytes or as JSON text, and checks
// its size.
func (l Limits) Result(result []byte, text string) ([]byte, error) {
	return l.either("result", result, text)
}

// options checks a job's options, merges the headers of the submission into
// them, and encodes them unless they are empty.
func options(o *heddlev1.JobOptions, d *defaults, out *model.Job) error {
	if r := o.GetRetry(); r != nil {
		if err := retry(r); err != nil {
			return Within("retry", err)
		}
		if n := r.GetAttempts(); n > 0 {
			out.MaxAttempts = int16(n)
		}
	}
	if _, err := Duration("timeout", o.GetTimeout(), maxDuration); err != nil {
		return err
	}
	if _, err := Duration("heartbeat_timeout", o.GetHeartbeatTimeout(), maxDuration); err != nil {
		return err
	}
	var err error
	if out.WaitTimeout, err = Duration("wait_timeout", o.GetWaitTimeout(), maxDuration); err != nil {
		return err
	}
	if out.Deadline, err = Duration("deadline", o.GetDeadline(), maxDuration); err != nil {
		return err
	}
	if out.Delay, err = Duration("delay", o.GetDelay(), maxDuration); err != nil {
		return err
	}
	if err := checkHeaders(o.GetHeaders()); err != nil {
		return err
	}
	if len(o.GetTags()) > maxTags {
		return invalid("tags", "%d tags are over the limit of %d", len(o.GetTags()), maxTags)
	}
	for i, tag := range o.GetTags() {
		if err := needed(fmt.Sprintf("tags[%d]", i), tag, maxText); err != nil {
			return err
		}
	}
	return encode(o, d, out)
}

// encode writes the merged options into out.
func encode(o *heddlev1.JobOptions, d *defaults, out *model.Job) error {
	if len(o.GetHeaders()) == 0 {
		o.Headers = d.headers
	} else if len(d.headers) > 0 {
		merged := maps.Clone(d.headers)
		maps.Copy(merged, o.Headers)
		o.Headers = merged
	}
	encoded, err := encoding.Marshal(o)
	if err != nil {
		return invalid("", "cannot be encoded: %v", err)
	}
	out.Opts = nil
	if len(encoded) > 0 {
		out.Opts = encoded
	}
	return nil
}

// checkHeaders checks the headers of a submission or job.
func checkHeaders(headers map[string]string) error {
	if len(headers) > maxHeaders {
		return invalid("headers", "%d headers are over the limit of %d", len(headers), maxHeaders)
	}
	for _, key := range slices.Sorted(maps.Keys(headers)) {
		if key == "" {
			return invalid("headers", "the name of one of them is empty")
		}
		if err := text("headers", key, maxText); err != nil {
			return err
		}
		if err := text(fmt.Sprintf("headers[%q]", key), headers[key], maxHeader); err != nil {
			return err
		}
	}
	return nil
}

// retry checks a retry policy.
func retry(r *heddlev1.RetryPolicy) error {
	if err := between("attempts", r.GetAttempts(), 0, maxAttempts); err != nil {
		return err
	}
	if _, known := heddlev1.Backoff_name[int32(r.GetBackoff())]; !known {
		return invalid("backoff", "%d is unknown", r.GetBackoff())
	}
	if r.Jitter != nil {
		if err := fraction("jitter", r.GetJitter(), 1); err != nil {
			return err
		}
	}
	initial, err := Duration("initial", r.GetInitial(), maxDuration)
	if err != nil {
		return err
	}
	highest, err := Duration("max", r.GetMax(), maxDuration)
	if err != nil {
		return err
	}
	if highest > 0 && initial > highest {
		return invalid("initial", "%v is longer than max, %v", initial, highest)
	}
	if f := r.GetFactor(); f != 0 && !(f >= 1 && f <= 1000) {
		return invalid("factor", "%v is not in 1..1000", f)
	}
	return delays(r.GetBackoff(), r.GetDelays())
}

// delays checks an explicit list of delays.
func delays(backoff heddlev1.Backoff, list []*durationpb.Duration) error {
	isList := backoff == heddlev1.Backoff_BACKOFF_LIST
	switch {
	case isList && len(list) == 0:
		return invalid("delays", "is empty, but backoff is a list")
	case !isList && len(list) > 0:
		return invalid("delays", "is set, but backoff is no list")
	case len(list) > maxDelays:
		return invalid("delays", "%d delays are over the limit of %d", len(list), maxDelays)
	}
	for i, d := range list {
		if _, err := Duration(fmt.Sprintf("delays[%d]", i), d, maxDuration); err != nil {
			return err
		}
	}
	return nil
}
