package linkwan

import (
	"joingate/joinserver"
)

// dataDispatchConfig is the wire form of a group's data dispatch.
type dataDispatchConfig struct {
	Destination string
	IotProduct  *iotProduct `json:",omitempty"`
	OnsTopics   *onsTopics  `json:",omitempty"`
}

type iotProduct struct {
	ProductName string
	ProductKey  string
	ProductType string
	DebugSwitch bool
}

type onsTopics struct {
	UplinkRegionName   string
	UplinkTopic        string
	DownlinkRegionName string
	DownlinkTopic      string
}

// The destinations as answers name them.
const (
	destinationIoT = "IOT"
	destinationONS = "ONS"
)

// dispatchWire is nil for a group whose data goes nowhere.
func dispatchWire(d joinserver.DataDispatch) *dataDispatchConfig {
	if d.Destination == "" {
		return nil
	}
	config := &dataDispatchConfig{Destination: d.Destination}
	switch d.Destination {
	case destinationIoT:
		config.IotProduct = &iotProduct{d.ProductName, d.ProductKey, d.ProductType, d.DebugSwitch}
	case destinationONS:
		config.OnsTopics = &onsTopics{d.UplinkRegionName, d.UplinkTopic, d.DownlinkRegionName, d.DownlinkTopic}
	}
	return config
}

// updateDataDispatchConfig replaces where a group's data goes, not whether it
// does. What is asked for as MQ is answered as ONS.
func updateDataDispatchConfig(c call, tx Tx) (any, error) {
	g, err := c.findGroup(tx, "NonExistent")
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"ProductName", "ProductKey", "UplinkRegionName", "UplinkTopic"} {
		if err := c.checkLength(name, maxTextRunes); err != nil {
			return nil, err
		}
	}
	g.Dispatch = joinserver.DataDispatch{Enabled: g.Dispatch.Enabled}
	if c.text("DataDispatchDestination") == destinationIoT {
		g.Dispatch.Destination = destinationIoT
		g.Dispatch.ProductName, g.Dispatch.ProductKey = c.text("ProductName"), c.text("ProductKey")
		g.Dispatch.ProductType, g.Dispatch.DebugSwitch = c.text("ProductType"), c.flag("DebugSwitch")
	} else {
		g.Dispatch.Destination = destinationONS
		g.Dispatch.UplinkRegionName, g.Dispatch.UplinkTopic = c.text("UplinkRegionName"), c.text("UplinkTopic")
	}
	return nil, tx.UpdateGroup(g)
}

func updateDataDispatchEnablingState(c call, tx Tx) (any, error) {
	g, err := c.findGroup(tx, "NonExistent")
	if err != nil {
		return nil, err
	}
	g.Dispatch.Enabled = c.flag("DataDispatchEnabled")
	return nil, tx.UpdateGroup(g)
}
