package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	heddlev1 "github.com/heddle-io/heddle/internal/gen/heddle/v1"
)

// strictJSON is the JSON of people who write requests by hand: a field that
// does not exist is refused, because a misspelt condition that is dropped in
// silence starts a job too early. Its answers show arguments and results as
// text beside their base64.
type strictJSON struct{ name string }

// Name implements connect.Codec.
func (c strictJSON) Name() string { return c.name }

// Marshal implements connect.Codec.
func (strictJSON) Marshal(message any) ([]byte, error) {
	m, ok := message.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("%T is no protobuf message", message)
	}
	readable(m)
	return protojson.Marshal(m)
}

// readable fills in the text fields of an answer, which belongs to its call.
func readable(answer proto.Message) {
	switch m := answer.(type) {
	case *heddlev1.WaitResponse:
		m.ResultJson = jsonText(m.GetResult())
	case *heddlev1.JobServiceGetResponse:
		readableJobs(m.GetJob())
	case *heddlev1.JobServiceListResponse:
		readableJobs(m.GetJobs()...)
	case *heddlev1.NodesResponse:
		readableJobs(m.GetJobs()...)
	}
}

func readableJobs(jobs ...*heddlev1.Job) {
	for _, j := range jobs {
		if j != nil {
			j.ArgsJson, j.ResultJson = jsonText(j.GetArgs()), jsonText(j.GetResult())
		}
	}
}

// jsonText gives bytes that are JSON as text, others as "". JSON with a broken
// character is none: protobuf refuses to write it.
func jsonText(b []byte) string {
	if !json.Valid(b) || !utf8.Valid(b) {
		return ""
	}
	return string(b)
}

// Unmarshal implements connect.Codec.
func (strictJSON) Unmarshal(data []byte, message any) error {
	m, ok := message.(proto.Message)
	if !ok {
		return fmt.Errorf("%T is no protobuf message", message)
	}
	if len(data) == 0 {
		return errors.New("the body is empty, which is no JSON object")
	}
	return protojson.Unmarshal(data, m)
}
