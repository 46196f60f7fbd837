package mqtt

import "testing"

func BenchmarkDecodeUplink(b *testing.B) {
	c := loadCaptures(b)
	for _, run := range []string{"v4-protobuf", "v4-json", "v3-protobuf", "v3-json"} {
		payload := c.first(b, run, "join-cn470", "/event/up").payload(b)
		b.Run(run, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := decodeUplink(payload); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkDecodeAck(b *testing.B) {
	c := loadCaptures(b)
	for _, run := range []string{"v4-protobuf", "v4-json", "v3-protobuf", "v3-json"} {
		payload := c.first(b, run, "down-rx1-ok-cn470", "/event/ack").payload(b)
		b.Run(run, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := decodeAck(payload); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkEncodeDownlink(b *testing.B) {
	command := aCommand()
	for e := v4Protobuf; e <= v3JSON; e++ {
		b.Run(e.String(), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := encodeDownlink(e, command); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkParseTopic(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, _, _, ok := parseTopic("eu868/gateway/0016c001f1500a01/event/up"); !ok {
			b.Fatal("not understood")
		}
	}
}
