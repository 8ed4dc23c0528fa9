// SPDX-License-Identifier: Apache-2.0

import Service
import Testing

@Suite("A service configuration")
struct ServiceConfigurationTests {
    private let vsock = VsockConfiguration(socketPath: "v.sock", guestCID: 3, path: "v")
    private let scsi = SCSIConfiguration(socketPath: "s.sock", luns: [])

    private func mistake(_ configuration: ServiceConfiguration) -> String? {
        do throws(ConfigurationError) {
            try configuration.check(knownFeatures: ["packed"])
            return nil
        } catch {
            return error.description
        }
    }

    @Test("may leave out either device")
    func eitherDevice() {
        #expect(mistake(ServiceConfiguration(scsi: scsi)) == nil)
        #expect(mistake(ServiceConfiguration(vsock: vsock)) == nil)
        #expect(mistake(ServiceConfiguration(scsi: scsi, vsock: vsock)) == nil)
    }

    @Test("has at least one device")
    func nothing() {
        #expect(mistake(ServiceConfiguration())?.contains("nothing to serve") == true)
    }

    @Test(
        "refuses the CIDs that have a meaning of their own",
        arguments: [0, 1, 2, 0xFFFF_FFFF, .max])
    func reservedCID(cid: UInt64) {
        var vsock = vsock
        vsock.guestCID = cid
        let message = mistake(ServiceConfiguration(vsock: vsock))
        #expect(message?.contains("--guest-cid \(cid): a guest's CID is a number from 3") == true)
    }

    @Test("takes the first and the last CID", arguments: [3, 0xFFFF_FFFE])
    func legalCID(cid: UInt64) {
        var vsock = vsock
        vsock.guestCID = cid
        #expect(mistake(ServiceConfiguration(vsock: vsock)) == nil)
    }

    @Test("refuses a socket path of 108 bytes and takes one of 107")
    func longPath() {
        var scsi = scsi
        scsi.socketPath = String(repeating: "x", count: 107)
        #expect(mistake(ServiceConfiguration(scsi: scsi)) == nil)
        scsi.socketPath += "x"
        let message = mistake(ServiceConfiguration(scsi: scsi))
        #expect(message?.contains("108 bytes; a Unix socket's path has 1 to 107") == true)
    }

    @Test("leaves room for a port after the vsock path: 96 bytes")
    func longVsockPath() {
        var vsock = vsock
        vsock.path = String(repeating: "x", count: 96)
        #expect(mistake(ServiceConfiguration(vsock: vsock)) == nil)
        vsock.path += "x"
        let message = mistake(ServiceConfiguration(vsock: vsock))
        #expect(message?.contains("97 bytes; a Unix socket's path has 1 to 96") == true)
    }

    @Test("keeps the sockets apart")
    func samePath() {
        var vsock = vsock
        vsock.socketPath = "s.sock"
        let message = mistake(ServiceConfiguration(scsi: scsi, vsock: vsock))
        #expect(message?.contains("--scsi-socket and --vsock-socket are both s.sock") == true)
    }

    @Test("keeps a disk apart from what is written")
    func diskThatIsWritten() {
        var configuration = ServiceConfiguration(scsi: scsi)
        configuration.scsi?.luns = [LUNConfiguration(target: 0, lun: 0, path: "d.img")]
        configuration.metricsFile = MetricsFileConfiguration(path: "d.img", intervalSeconds: 15)
        let message = mistake(configuration)
        #expect(message?.contains("--lun and --metrics-textfile are both d.img") == true)
    }

    @Test("keeps the sockets of port maps apart")
    func sameListener() throws {
        var vsock = vsock
        try vsock.settings.add(.listen, "22=\(vsock.path)", place: "--vsock-listen")
        let message = mistake(ServiceConfiguration(vsock: vsock))
        #expect(message?.contains("--vsock-path and --vsock-listen are both") == true)
        vsock.path = "other"
        try vsock.settings.add(.listen, "23=twice", place: "--vsock-listen")
        try vsock.settings.add(.listen, "24=twice", place: "--vsock-listen")
        let second = mistake(ServiceConfiguration(vsock: vsock))
        #expect(second?.contains("--vsock-listen and --vsock-listen are both twice") == true)
    }

    @Test("names the features that can be withheld")
    func unknownFeature() {
        let configuration = ServiceConfiguration(scsi: scsi, withheldFeatures: ["paked"])
        let message = mistake(configuration)
        #expect(message == "--disable-feature paked: no such feature; known are packed")
    }
}
