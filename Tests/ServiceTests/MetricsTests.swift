// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import Service

@Suite("The figures of a service")
struct MetricsTests {
    @Test("carry the machine's name, where it has one")
    func machine() {
        var status = ServiceStatus(version: "1", uptimeSeconds: 7, logLevel: "info")
        #expect(status.metrics(.prometheus).contains("\nvhostd_uptime_seconds 7\n"))
        status.machine = "vm\"1"
        status.silentDevices = ["scsi"]
        let text = status.metrics(.prometheus)
        #expect(text.contains("\nvhostd_uptime_seconds{vm=\"vm\\\"1\"} 7\n"))
        #expect(text.contains("\nvhostd_device_responding{vm=\"vm\\\"1\",device=\"scsi\"} 0\n"))
    }
}
