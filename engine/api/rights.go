package api

import (
	"fmt"
	"strings"
	"sync"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/heddle-io/heddle/engine/access"
	"github.com/heddle-io/heddle/internal/gen/heddle/v1/heddlev1connect"
)

// need is what a procedure takes.
type need struct {
	open    bool        // anybody may call it
	peer    bool        // only other nodes may
	role    access.Role // who includes it may; Nobody: see worker
	worker  bool        // workers may as well
	changes bool        // a read-only engine refuses it
}

// looks are the procedures that change nothing, though their definition does
// not say so: streams, and waiting.
var looks = map[string]bool{
	heddlev1connect.WorkflowServiceWatchProcedure:   true,
	heddlev1connect.WorkflowServiceWaitProcedure:    true,
	heddlev1connect.WorkflowServiceResultsProcedure: true,
	heddlev1connect.LiveServiceWatchProcedure:       true,
}

// ofHandlers are what running handlers call beside the worker protocol: they
// read the results of other jobs, and add jobs to their own workflow.
var ofHandlers = map[string]bool{
	heddlev1connect.WorkflowServiceResultsProcedure: true,
	heddlev1connect.WorkflowServiceAppendProcedure:  true, // under a lease: see Append
}

// needs are those of all procedures, by path.
var needs = sync.OnceValue(func() map[string]need {
	all := make(map[string]need)
	eachMethod(func(path string, m protoreflect.MethodDescriptor) {
		service := "/" + string(m.Parent().FullName()) + "/"
		switch service {
		case "/" + heddlev1connect.AccessServiceName + "/":
			all[path] = need{open: true}
			return
		case "/" + heddlev1connect.PeerServiceName + "/":
			all[path] = need{peer: true}
			return
		case "/" + heddlev1connect.WorkerServiceName + "/":
			// It steers nothing: what is there goes on under a read-only engine.
			all[path] = need{role: access.Worker}
			return
		}
		n := need{role: access.Operator, worker: ofHandlers[path], changes: true}
		o, _ := m.Options().(*descriptorpb.MethodOptions)
		switch {
		case looks[path], o.GetIdempotencyLevel() == descriptorpb.MethodOptions_NO_SIDE_EFFECTS:
			n.role, n.changes = access.Viewer, false
		case service == "/"+heddlev1connect.ClusterServiceName+"/":
			n.role = access.Admin
		}
		all[path] = n
	})
	return all
})

// eachMethod calls f for every method of the API.
func eachMethod(f func(path string, m protoreflect.MethodDescriptor)) {
	protoregistry.GlobalFiles.RangeFilesByPackage("heddle.v1", func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			s := file.Services().Get(i)
			for j := range s.Methods().Len() {
				m := s.Methods().Get(j)
				f(fmt.Sprintf("/%s/%s", s.FullName(), m.Name()), m)
			}
		}
		return true
	})
}

// needOf is what a procedure takes. One that is not known takes what nobody has.
func needOf(procedure string) need {
	if n, ok := needs()[procedure]; ok {
		return n
	}
	if strings.HasPrefix(procedure, "/grpc.reflection.") {
		return need{role: access.Viewer}
	}
	return need{}
}

// payloadFields are the fields of answers that hold arguments and results.
var payloadFields = map[protoreflect.Name]bool{"args": true, "args_json": true, "result": true, "result_json": true}

// mask empties the fields of an answer that hold arguments and results, however
// deep they lie.
func mask(answer any) {
	if m, ok := answer.(proto.Message); ok {
		maskMessage(m.ProtoReflect())
	}
}

// masked gives an answer without arguments and results. The given one stays as
// it is: streams send one message to many.
func masked(answer any) any {
	m, ok := answer.(proto.Message)
	if !ok || !carries(m.ProtoReflect().Descriptor(), nil) {
		return answer
	}
	m = proto.Clone(m)
	maskMessage(m.ProtoReflect())
	return m
}

func maskMessage(m protoreflect.Message) {
	if !carries(m.Descriptor(), nil) {
		return
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case isPayload(f):
			m.Clear(f)
		case f.Message() == nil:
		case f.IsMap():
			if f.MapValue().Message() != nil {
				v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
					maskMessage(v.Message())
					return true
				})
			}
		case f.IsList():
			for i := range v.List().Len() {
				maskMessage(v.List().Get(i).Message())
			}
		default:
			maskMessage(v.Message())
		}
		return true
	})
}

func isPayload(f protoreflect.FieldDescriptor) bool {
	return payloadFields[f.Name()] && !f.IsList() && (f.Kind() == protoreflect.BytesKind || f.Kind() == protoreflect.StringKind)
}

// carriers remembers what carries answered.
var carriers sync.Map // protoreflect.FullName to bool

// carries tells whether messages of a type can hold arguments or results. above
// are the types around it that are being looked at.
func carries(d protoreflect.MessageDescriptor, above []protoreflect.FullName) bool {
	if known, ok := carriers.Load(d.FullName()); ok {
		return known.(bool)
	}
	for _, name := range above {
		if name == d.FullName() {
			return false // that of the outer one is to be found elsewhere
		}
	}
	found := false
	for i := range d.Fields().Len() {
		f := d.Fields().Get(i)
		if isPayload(f) || f.Message() != nil && carries(f.Message(), append(above, d.FullName())) {
			found = true
			break
		}
	}
	if found || len(above) == 0 {
		carriers.Store(d.FullName(), found)
	}
	return found
}
