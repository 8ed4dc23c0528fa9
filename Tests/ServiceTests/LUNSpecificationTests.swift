// SPDX-License-Identifier: Apache-2.0

import Service
import Testing

@Suite("A LUN specification")
struct LUNSpecificationTests {
    @Test("is a path when it has no keys", arguments: ["disk.img", "/a/b=c", "./a,b", "dir/x=1,y"])
    func path(text: String) throws {
        let specification = try LUNSpecification(text)
        #expect(specification.path == text)
        #expect(specification.target == nil)
        #expect(specification.lun == nil)
        #expect(!specification.isReadOnly)
    }

    @Test("takes every key")
    func keys() throws {
        let text = "target=1,lun=3,path=/dev/vg/data,readonly,block-size=4096"
        let specification = try LUNSpecification(text)
        #expect(specification.target == 1)
        #expect(specification.lun == 3)
        #expect(specification.path == "/dev/vg/data")
        #expect(specification.isReadOnly)
        #expect(specification.blockSize == 4096)
    }

    @Test("shares a disk only with a file that all services keep reservations in")
    func shared() throws {
        let disk = try LUNSpecification("path=a,shared,reservations=b").disk
        #expect(disk.isShared && disk.reservationsPath == "b")
        #expect(throws: ConfigurationError.self) { try LUNSpecification("path=a,shared") }
    }

    @Test("takes what a disk says of itself")
    func disk() throws {
        let text =
            "path=a,physical-block-size=4096,vendor=ACME,product=Big Disk,revision=2.0,"
            + "serial=SN-1,wwn=0x5000c500a1b2c3d4"
        let disk = try LUNSpecification.resolve([LUNSpecification(text)]).first?.disk
        #expect(disk?.physicalBlockSize == 4096)
        #expect(disk?.vendor == "ACME")
        #expect(disk?.product == "Big Disk")
        #expect(disk?.revision == "2.0")
        #expect(disk?.serial == "SN-1")
        #expect(disk?.worldWideName == [0x50, 0x00, 0xC5, 0x00, 0xA1, 0xB2, 0xC3, 0xD4])
    }

    @Test("reads a doubled comma as one")
    func doubledComma() throws {
        #expect(try LUNSpecification("path=a,,b,readonly").path == "a,b")
    }

    @Test(
        "names the key that is wrong and what would be right",
        arguments: [
            ("traget=1,path=x", "unknown key 'traget'; known are target, lun, path, readonly"),
            ("target=256,path=x", "target=256 is not a number from 0 to 255"),
            ("target=-1,path=x", "target=-1 is not a number from 0 to 255"),
            ("lun=16384,path=x", "lun=16384 is not a number from 0 to 16383"),
            ("lun=,path=x", "lun= is not a number from 0 to 16383"),
            ("target=1,target=2,path=x", "'target' is given twice"),
            ("target=1", "no path; give a file or block device"),
            ("path=", "no path; give a file or block device"),
            ("", "no path; give a file or block device"),
            ("path=x,readonly=maybe", "'readonly' stands alone, or is on or off"),
            ("path=x,block-size=1024", "block-size=1024 is neither 512 nor 4096"),
            ("path=x,physical-block-size=1000", "physical-block-size=1000 is none of 512, 4096"),
            ("path=x,vendor=ninechars", "vendor=ninechars is none of 1 to 8 printable ASCII"),
            ("path=x,serial=", "serial= is none of 1 to 128 printable ASCII characters"),
            ("disk.img,readonly", "has keys behind it is written path=disk.img,readonly; a comma"),
            ("/a/disk.img,lun=1,target=2", "is written path=/a/disk.img,lun=1,target=2; a comma"),
            ("path=x,wwn=1234", "wwn=1234 is none of 16 hexadecimal digits"),
            ("path=x,wwn=9000000000000000", "that begin with 2, 3 or 5"),
        ])
    func mistakes(text: String, message: String) {
        let error = #expect(throws: ConfigurationError.self) { try LUNSpecification(text) }
        #expect(error?.description.contains(message) == true)
        #expect(error?.description.hasPrefix("--lun") == true)
    }

    @Test("gets the lowest target without a LUN when it has no place")
    func places() throws {
        let specifications = try [
            "a", "target=1,lun=3,path=b", "c", "target=2,path=d", "lun=7,path=e", "f",
        ].map { try LUNSpecification($0) }
        let resolved = try LUNSpecification.resolve(specifications)
        #expect(resolved.map(\.target) == [3, 1, 4, 2, 0, 5])
        #expect(resolved.map(\.lun) == [0, 3, 0, 0, 7, 0])
    }

    @Test("cannot have the place of another")
    func samePlace() throws {
        let specifications = try ["target=1,path=a", "target=1,lun=0,path=b"].map {
            try LUNSpecification($0)
        }
        #expect(throws: ConfigurationError.repeatedLUN(target: 1, lun: 0)) {
            try LUNSpecification.resolve(specifications)
        }
    }

    @Test("finds no target when all 256 are taken")
    func noTargetLeft() throws {
        let specifications = try (0...256).map { try LUNSpecification("disk\($0)") }
        #expect(throws: ConfigurationError.tooManyTargets(limit: 256)) {
            try LUNSpecification.resolve(specifications)
        }
    }
}
