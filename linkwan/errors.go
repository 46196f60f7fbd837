package linkwan

import (
	"fmt"
	"net/http"
)

// APIError is the refusal of a call: what the server answers, and what Client
// returns for it.
type APIError struct {
	Code       string
	Message    string
	Recommend  string // what to do about it
	RequestID  string
	HTTPStatus int
}

// Error gives code, message and RequestId.
func (e *APIError) Error() string {
	return fmt.Sprintf("%s: %s (RequestId %s)", e.Code, e.Message, e.RequestID)
}

// errorInfo is one row of the error table.
type errorInfo struct {
	status  int // 0: 400
	message string
	advice  string
}

// errorTable holds the codes that need more than a message in actions.json: those
// of the gateway in front of all Alibaba products, and advice of ours.
var errorTable = map[string]errorInfo{
	// Alibaba Cloud's API gateway.
	"InvalidAction.NotFound":             {http.StatusNotFound, "Specified api is not found, please check your url and method.", "Send the call to path / and take an action of doc/api.md."},
	"InvalidVersion":                     {0, "Specified parameter Version is not valid.", "Set Version to " + Version + "."},
	"MissingParameter":                   {0, "%s is mandatory for this action.", "Give the parameter that the message names."},
	"InvalidParameter":                   {0, "Specified parameter %s is not valid.", "Correct the parameter that the message names."},
	"InvalidParameter.Format":            {0, "Specified parameter format is not valid.", "Send parameters percent-encoded in the query or in a form body."},
	"InvalidAccessKeyId.NotFound":        {http.StatusNotFound, "Specified access key is not found.", "Make one with joingate accesskey create."},
	"InvalidAccessKeyId.Inactive":        {0, "Specified access key is disabled.", "Use another AccessKey."},
	"InvalidSignatureMethod":             {0, "Specified signature method is not valid.", "Sign with HMAC-SHA1, version 1.0, or with ACS3-HMAC-SHA256."},
	"SignatureDoesNotMatch":              {0, "Specified signature is not matched with our calculation. server string to sign is:%s", "Compare the string to sign with yours: when they are equal, the secret is wrong."},
	"SignatureNonceUsed":                 {0, "Specified signature nonce was used already.", "Sign each request with a nonce of its own."},
	"InvalidTimeStamp.Format":            {0, "Specified time stamp or date value is not well formatted.", "Write the time as 2006-01-02T15:04:05Z, in UTC."},
	"InvalidTimeStamp.Expired":           {0, "Specified time stamp or date value is expired.", "Set the client's clock: it may differ by 15 minutes."},
	"UnsupportedHTTPMethod":              {0, "This http method is not supported.", "Use GET or POST."},
	"Throttling.User":                    {0, "Request was denied due to user flow control.", "Call an action at most 5 times a second per account."},
	"TooManyPinCodeVerificationFailures": {0, "You have entered invalid PIN codes for several times. Try again later.", "Wait 10 minutes."},

	// Link WAN, with messages of actions.json.
	"CloudProductNotActivated":            {advice: "The operator runs joingate account set NAME --product-activated=true."},
	"FeatureNotActivated":                 {advice: "The operator runs joingate account set NAME --features …"},
	"ForbiddenByRam":                      {advice: "Allow the RAM user this action on this resource."},
	"ForbiddenByRiskControl":              {advice: "Wait 10 minutes, or ask the operator to lift the account's risk control."},
	"InternalError":                       {status: http.StatusInternalServerError, advice: "Try again; tell the operator the RequestId."},
	"ExceedLocalJoinPermissionLimit":      {advice: "Delete a join permission, or ask the operator for a higher limit."},
	"InvalidFreqBandPlan":                 {advice: "Take a group of ListFreqBandPlanGroups."},
	"InvalidName":                         {advice: "Use 4 to 30 Chinese characters (each counts 2), letters, digits and underscores."},
	"JoinPermissionAlreadyAuthorized":     {advice: "Cancel the order, let the renter return the permission, or unbind it first."},
	"JoinPermissionAlreadyBoundNodeGroup": {advice: "Unbind the join permission first."},
	"NodeGroupAlreadyBoundJoinPermission": {advice: "Unbind the node group first."},
	"TooManyRenterNonExistentFailures":    {advice: "Wait 10 minutes."},
}

// fail makes the error of a code that takes no argument.
func fail(code string) *APIError { return failure(code, "") }

// missing says that a parameter was not given.
func missing(name string) *APIError { return failure("MissingParameter", name) }

// invalid says that a parameter's value cannot be used.
func invalid(name string) *APIError { return failure("InvalidParameter", name) }

func failure(code, argument string) *APIError {
	info := errorTable[code]
	message := info.message
	if message == "" {
		message = catalog().ErrorMessages[code]
	}
	if argument != "" {
		message = fmt.Sprintf(message, argument)
	}
	if info.status == 0 {
		info.status = http.StatusBadRequest
	}
	return &APIError{Code: code, Message: message, Recommend: info.advice, HTTPStatus: info.status}
}
