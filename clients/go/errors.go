package expertd

import (
	"fmt"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Error is what a call failed with.
type Error struct {
	Code codes.Code
	// Reason, as errors.proto lists them ("QUEUE_FULL"); empty when the failure is not the server's own.
	Reason  string
	Message string
	// Metadata holds further facts ("maxModelLen": "4096").
	Metadata map[string]string
	// Violations name the fields at fault, by their paths in the contract: "sampling.top_p".
	Violations []Violation
	// RetryDelay after which the server expects to have room; 0: it does not say.
	RetryDelay time.Duration
	// RequestID of the request, when its caller gave it one.
	RequestID string

	status *status.Status
}

// Violation is a field of the request that has a wrong value.
type Violation struct{ Field, Description string }

func (e *Error) Error() string {
	reason := e.Reason
	if reason == "" {
		reason = e.Code.String()
	}
	return fmt.Sprintf("%s: %s", reason, e.Message)
}

// GRPCStatus makes status.Code and status.FromError see the status.
func (e *Error) GRPCStatus() *status.Status { return e.status }

func errorFrom(err error, requestID string) *Error {
	from := status.Convert(err)
	failure := &Error{Code: from.Code(), Message: from.Message(), RequestID: requestID, status: from}
	for _, detail := range from.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			failure.Reason, failure.Metadata = detail.GetReason(), detail.GetMetadata()
		case *errdetails.RetryInfo:
			failure.RetryDelay = detail.GetRetryDelay().AsDuration()
		case *errdetails.BadRequest:
			for _, violation := range detail.GetFieldViolations() {
				failure.Violations = append(failure.Violations,
					Violation{Field: violation.GetField(), Description: violation.GetDescription()})
			}
		}
	}
	return failure
}
