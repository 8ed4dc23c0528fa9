// SPDX-License-Identifier: Apache-2.0

import Driver
import Foundation
import FrontEnd
import Guests
import Testing

@Suite("A service that is changed while a guest runs")
struct ControlTests {
    private static let reportedLUNsChanged: [UInt8] = [0x3F, 0x0E]
    private static let capacityChanged: [UInt8] = [0x2A, 0x09]

    private let program: Program
    private let control: String

    init() throws {
        program = try Program([
            "run", "--scsi-socket", "@/s", "--lun", "@/disk", "--control-socket", "@/c",
            "--vsock-socket", "@/v", "--guest-cid", "3", "--vsock-path", "@/h",
            "--metrics-textfile", "@/vm.prom",
        ]) {
            try Program.makeFile($0 + "/disk", byteCount: 16 << 20)
            try Program.makeFile($0 + "/more", byteCount: 8 << 20)
        }
        control = program.folder + "/c"
        try program.waitUntilListening("c")
    }

    /// A guest that has swallowed the unit attention of a new session.
    private func makeGuest() throws -> SCSIGuest {
        let guest = try SCSIGuest(socketPath: program.folder + "/s")
        try guest.start()
        _ = try guest.send([0x03, 0, 0, 0, 18, 0], room: 18)
        return guest
    }

    /// Adds the second disk.
    private func add(_ keys: String) throws -> [String: Any] {
        try ControlSocket.ask(
            control, #"{"command":"lun-add","unit":"\#(keys),path=\#(program.folder)/more"}"#)
    }

    private func ask(_ command: String, target: Int, lun: Int, more: String = "") throws -> [String:
        Any]
    {
        try ControlSocket.ask(
            control,
            #"{"command":"\#(command)","place":{"target":\#(target),"lun":\#(lun)}\#(more)}"#)
    }

    /// Commands of 4 KiB each, to different blocks of a unit, all under way at once.
    private func offerWrites(_ count: Int, to guest: SCSIGuest, target: UInt8 = 0) {
        let bytes = [UInt8](repeating: 0xA5, count: 4096)
        for tag in 0..<count {
            guest.offer(
                [0x2A, 0, 0, 0, UInt8(tag), 0, 0, 0, 8, 0], out: bytes, tag: tag, target: target)
        }
    }

    @Test("tells what it is and does")
    func status() throws {
        let unit = try #require(try ControlSocket.unit(control, target: 0, lun: 0))
        #expect(unit["state"] as? String == "online")
        #expect(unit["source"] as? String == program.folder + "/disk")
        #expect(unit["blockCount"] as? Int == 32768)
        let status = try ControlSocket.ask(control, #"{"command":"status"}"#)["status"]
        let vsock = (status as? [String: Any])?["vsock"] as? [String: Any]
        #expect(vsock?["guestCID"] as? Int == 3)
    }

    @Test(
        "refuses what it does not understand and goes on",
        arguments: [
            ("no JSON", "no request"), (#"{"command":"reboot"}"#, "no request"),
            (#"{"command":"lun-add"}"#, "the request needs 'unit'"),
            (#"{"command":"lun-remove"}"#, "the request needs 'place'"),
            (#"{"command":"lun-add","unit":"traget=1,path=x"}"#, "unknown key 'traget'"),
            (#"{"command":"lun-add","unit":"target=0,path=x"}"#, "target=0,lun=0 is taken"),
            (#"{"command":"lun-add","unit":"/nonexistent/x"}"#, "/nonexistent/x"),
            (
                #"{"command":"lun-remove","place":{"target":7,"lun":0}}"#,
                "there is no unit at target 7, LUN 0"
            ),
            (
                #"{"command":"lun-limit","place":{"target":0,"lun":0}}"#,
                "the request needs 'limits'"
            ),
            (
                #"{"command":"lun-limit","place":{"target":0,"lun":0},"limits":{"operationsPerSecond":0}}"#,
                "target 0, LUN 0: 0 operations is no limit; for none leave it out"
            ),
            (
                #"{"command":"lun-limit","place":{"target":0,"lun":0},"limits":{"byteBurst":9}}"#,
                "a burst of bytes needs a rate of bytes a second beside it"
            ),
            (#"{"command":"log-level","level":"loud"}"#, "'level' is one of trace, debug"),
        ])
    func refusals(request: String, message: String) throws {
        let error = try ControlSocket.ask(control, request)["error"] as? String
        #expect(error?.contains(message) == true, "\(error ?? "no error")")
        #expect(try ControlSocket.unit(control, target: 0, lun: 0) != nil)
    }

    @Test("tells the guest of a unit that comes and one that goes, by unit attention")
    func comingAndGoing() throws {
        let guest = try makeGuest()
        #expect(try add("target=0,lun=1")["message"] as? String == "added at target 0, LUN 1")
        let attention = try #require(try guest.send([0, 0, 0, 0, 0, 0]))
        #expect(attention.status == 2)
        #expect(Array(attention.sense[12...13]) == Self.reportedLUNsChanged)
        // The new one says that it is new, and then works.
        #expect(try guest.send([0, 0, 0, 0, 0, 0], lun: 1)?.status == 2)
        #expect(try guest.send([0, 0, 0, 0, 0, 0], lun: 1)?.status == 0)
        _ = try ask("lun-remove", target: 0, lun: 1)
        let other = try #require(try guest.send([0, 0, 0, 0, 0, 0]))
        #expect(Array(other.sense[12...13]) == Self.reportedLUNsChanged)
        // LOGICAL UNIT NOT SUPPORTED.
        #expect(try guest.send([0, 0, 0, 0, 0, 0], lun: 1)?.sense[12] == 0x25)
    }

    @Test("tells the guest of a new size, by event and by unit attention")
    func newSize() throws {
        let guest = try makeGuest()
        let event = Chain(writable: [guest.memory.segment(byteCount: 16, filledWith: 0xEE)])
        _ = guest.rings[1].driver.offer(event)
        try Program.resizeFile(program.folder + "/disk", byteCount: 32 << 20)
        let message = try ask("lun-resize", target: 0, lun: 0)["message"] as? String
        #expect(message == "target 0, LUN 0 has 33554432 bytes now")
        let attention = try #require(try guest.send([0, 0, 0, 0, 0, 0]))
        #expect(Array(attention.sense[12...13]) == Self.capacityChanged)
        let capacity = try #require(
            try guest.send([0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0], room: 8))
        #expect(capacity.data == [0, 0, 0xFF, 0xFF, 0, 0, 2, 0])
        // VIRTIO_SCSI_T_PARAM_CHANGE for target 0, LUN 0, with ASC and ASCQ as the reason.
        let told = try guest.rings[1].driver.reapAll()
        #expect(told.count == 1)
        #expect(
            guest.memory.read(event.writable)
                == [3, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0x2A, 0x09, 0, 0])
    }

    @Test("loses no request to one disk while another comes and goes, 40 times")
    func load() throws {
        let guest = try makeGuest()
        for round in 0..<40 {
            offerWrites(32, to: guest)
            guest.requests.driver.kick()
            if round % 2 == 0 {
                #expect(try add("target=1,lun=0")["error"] == nil)
            } else {
                #expect(try ask("lun-remove", target: 1, lun: 0)["error"] == nil)
            }
            let answers = try guest.answers(32)
            #expect(answers.values.allSatisfy { $0.status == 0 && $0.response == 0 })
        }
        let block = try guest.send([0x28, 0, 0, 0, 31, 0, 0, 0, 8, 0], room: 4096)
        #expect(block?.data == [UInt8](repeating: 0xA5, count: 4096))
    }

    @Test("ends every request to a disk that is taken away under load")
    func removalUnderLoad() throws {
        let guest = try makeGuest()
        _ = try add("target=1,lun=0")
        _ = try guest.send([0, 0, 0, 0, 0, 0], target: 1)
        offerWrites(40, to: guest, target: 1)
        guest.requests.driver.kick()
        #expect(try ask("lun-remove", target: 1, lun: 0)["error"] == nil)
        #expect(try guest.answers(40).count == 40)
        // The file is free again.
        #expect(try add("target=2,lun=0")["error"] == nil)
    }

    @Test("holds a guest to the limits of its disk, and lets it go when the queue stops")
    func limits() throws {
        let guest = try makeGuest()
        _ = try ask(
            "lun-limit", target: 0, lun: 0,
            more: #","limits":{"operationsPerSecond":1000,"operationBurst":1}"#)
        offerWrites(32, to: guest)
        #expect(try guest.answers(32).values.allSatisfy { $0.status == 0 })
        let unit = try ControlSocket.unit(control, target: 0, lun: 0)
        let figures = unit?["figures"] as? [String: Any]
        #expect(figures?["writeCount"] as? Int == 32)
        #expect(figures?["delayedCount"] as? Int ?? 0 > 0)
        _ = try ask(
            "lun-limit", target: 0, lun: 0,
            more: #","limits":{"operationsPerSecond":1,"operationBurst":1}"#)
        offerWrites(32, to: guest)
        guest.requests.driver.kick()
        try guest.frontEnd.synchronize()
        program.terminate()
        #expect(program.exitStatus() == .exited(0))
        #expect(!program.errors.contains("did not end in time"))
    }

    @Test("drains: what is under way ends, what comes then stays in the ring until it goes on")
    func draining() throws {
        let guest = try makeGuest()
        offerWrites(32, to: guest)
        #expect(try guest.answers(32).count == 32)
        let drain = try Program(["ctl", "drain", "--socket", control])
        #expect(drain.exitStatus() == .exited(0))
        #expect(drain.lines == ["drained; vhostd ctl resume lets the guest go on"])
        offerWrites(8, to: guest)
        guest.requests.driver.kick()
        try guest.frontEnd.synchronize()
        let unit = try ControlSocket.unit(control, target: 0, lun: 0)
        #expect((unit?["figures"] as? [String: Any])?["writeCount"] as? Int == 32)
        let status = try Program(["ctl", "status", "--socket", control])
        #expect(status.exitStatus() == .exited(0))
        #expect(status.lines.filter { $0.hasSuffix(", draining") }.count == 2)
        let resume = try Program(["ctl", "resume", "--socket", control])
        #expect(resume.exitStatus() == .exited(0))
        #expect(try guest.answers(8).values.allSatisfy { $0.status == 0 })
    }

    @Test("says what a limit holds back when it cannot drain in time, and stops all the same")
    func drainingTooLong() throws {
        let guest = try makeGuest()
        _ = try ask(
            "lun-limit", target: 0, lun: 0,
            more: #","limits":{"operationsPerSecond":1,"operationBurst":1}"#)
        // The drain must not come before the requests.
        offerWrites(32, to: guest)
        guest.requests.driver.kick()
        var waitingCount = 0
        for _ in 0..<2000 where waitingCount == 0 {
            let unit = try ControlSocket.unit(control, target: 0, lun: 0)
            waitingCount = unit?["waitingCount"] as? Int ?? 0
        }
        let drain = try Program(["ctl", "drain", "--within", "0", "--socket", control])
        #expect(drain.exitStatus() == .exited(1))
        #expect(drain.errors.hasPrefix("vhostd: still under way: "), "\(drain.errors)")
        program.terminate()
        #expect(program.exitStatus() == .exited(0))
    }

    @Test(
        "has each command of vhostd ctl, as a table and as JSON",
        arguments: [
            ("status", "DEVICE"), ("lun list", "TARGET"), ("connections", "DIRECTION"),
            ("top --count 1 --interval 0.01", "TARGET"), ("metrics", "# TYPE"),
            ("log-level debug", "log level is debug"), ("drain", "drained"), ("resume", "taking"),
            ("lun limit 0 --iops 5", "limited"), ("lun resize 0", "as before"),
        ])
    func verbs(command: String, word: String) throws {
        let words = ["ctl"] + command.split(separator: " ").map(String.init)
        let table = try Program(words + ["--socket", control])
        #expect(table.exitStatus() == .exited(0), "\(table.errors)")
        #expect(table.lines.joined(separator: "\n").contains(word), "\(table.lines)")
        let json = try Program(words + ["--json", "--socket", control])
        #expect(json.exitStatus() == .exited(0), "\(json.errors)")
        let text = json.lines.joined(separator: "\n")
        #expect(try JSONSerialization.jsonObject(with: Data(text.utf8)) is [String: Any])
    }

    @Test("is watched by vhostd top, too, which is told when it goes")
    func top() throws {
        let top = try Program(["top", "--interval", "0.01", "--json", "--socket", control])
        for _ in 0..<20_000 where top.lines.count < 3 { usleep(5_000) }
        #expect(top.lines.count >= 3)
        program.terminate()
        #expect(top.exitStatus() == .exited(1))
        let wrong = try Program(["top", "--interval", "0", "--socket", control])
        #expect(wrong.exitStatus() == .exited(2))
        #expect(wrong.errors.contains("--interval 0.0: more than 0, and 3600 at most"))
    }

    @Test("speaks OpenMetrics")
    func metrics() throws {
        let text = try ControlSocket.ask(control, #"{"command":"metrics"}"#)["metrics"]
        let lines = (text as? String ?? "").split(separator: "\n")
        #expect(lines.last == "# EOF")
        #expect(lines.contains("vhostd_lun_size_bytes{target=\"0\",lun=\"0\"} 16777216"))
        #expect(lines.contains("vhostd_frontend_connected{device=\"vsock\"} 0"))
    }

    @Test("does not add a disk that it has, unless a second path is asked for")
    func sameDisk() throws {
        func add(_ place: String) throws -> [String: Any] {
            try ControlSocket.ask(
                control, #"{"command":"lun-add","unit":"\#(place)path=\#(program.folder)/more"}"#)
        }
        #expect(try add("")["message"] as? String == "added at target 1, LUN 0")
        let error = try add("")["error"] as? String
        #expect(
            error?.hasSuffix("/more: a disk already; for a second path to it give target=") == true)
        #expect(try add("target=5,")["message"] as? String == "added at target 5, LUN 0")
    }

    @Test("writes its figures as node_exporter reads them, and takes the file with it")
    func metricsFile() throws {
        var text = ""
        for _ in 0..<20_000 where text.isEmpty {
            // Not yet.
            text = (try? String(contentsOfFile: program.folder + "/vm.prom", encoding: .utf8)) ?? ""
            if text.isEmpty { usleep(5_000) }
        }
        let lines = text.split(separator: "\n")
        #expect(lines.contains("# TYPE vhostd_lun_requests_total counter"))
        #expect(lines.contains("# TYPE vhostd_info gauge"))
        #expect(!lines.contains { $0.hasPrefix("# UNIT") || $0 == "# EOF" })
        program.terminate()
        #expect(program.exitStatus() == .exited(0))
        #expect(!program.exists("vm.prom"))
    }

    @Test("is looked at and changed by vhostd ctl, which says no with status 1")
    func command() throws {
        let status = try Program(["ctl", "lun", "list", "--socket", control])
        #expect(status.exitStatus() == .exited(0))
        let refused = try Program(["ctl", "lun", "remove", "9", "--socket", control])
        #expect(refused.exitStatus() == .exited(1))
        #expect(refused.errors == "vhostd: there is no unit at target 9, LUN 0\n")
        let nobody = try Program(["ctl", "status", "--socket", "@/nobody"])
        #expect(nobody.exitStatus() == .exited(1))
        #expect(nobody.errors.contains("no service listens there"))
        let nowhere = try Program(["ctl", "status"])
        #expect(nowhere.exitStatus() == .exited(2))
        #expect(nowhere.errors.contains("give --vm NAME, or --socket PATH"))
    }

    @Test("takes the control socket with it")
    func end() throws {
        program.terminate()
        #expect(program.exitStatus() == .exited(0))
        #expect(!program.exists("c"))
    }
}
