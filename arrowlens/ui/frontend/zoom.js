// Zooming and moving a picture by wheel, double click, two fingers or drag; swiping to the next one while it is whole.

const MOST = 8;

export class Zoom {
  constructor(stage, picture, onSwipe, swipe) {
    this.stage = stage;
    this.picture = picture;
    this.onSwipe = onSwipe;
    this.swipe = swipe;
    this.scale = 1;
    this.x = this.y = 0; // pixels from the middle
    this.pointers = new Map();
    stage.addEventListener("wheel", (event) => this.wheeled(event), { passive: false });
    stage.addEventListener("dblclick", (event) => this.to(this.scale > 1 ? 1 : 2.5, event));
    stage.addEventListener("pointerdown", (event) => this.down(event));
    stage.addEventListener("pointermove", (event) => this.moved(event));
    for (const name of ["pointerup", "pointercancel"]) stage.addEventListener(name, (event) => this.up(event));
  }

  by(factor, at = null) {
    this.to(this.scale * factor, at);
  }

  // Zoom to a scale; what lies under `at` stays there.
  to(scale, at = null) {
    const next = Math.min(Math.max(scale, 1), MOST);
    const box = this.stage.getBoundingClientRect();
    const x = at ? at.clientX - box.left - box.width / 2 : 0;
    const y = at ? at.clientY - box.top - box.height / 2 : 0;
    this.x = x - ((x - this.x) * next) / this.scale;
    this.y = y - ((y - this.y) * next) / this.scale;
    this.scale = next;
    this.draw();
  }

  draw() {
    const box = this.stage.getBoundingClientRect();
    const slack = (size) => (size * (this.scale - 1)) / 2;
    const within = (value, most) => Math.min(Math.max(value, -most), most);
    this.x = within(this.x, slack(box.width));
    this.y = within(this.y, slack(box.height));
    this.picture.style.transform = this.scale === 1 ? "" : `translate(${this.x}px, ${this.y}px) scale(${this.scale})`;
    this.stage.toggleAttribute("data-zoomed", this.scale > 1);
  }

  wheeled(event) {
    event.preventDefault();
    this.by(Math.exp(-event.deltaY / 400), event);
  }

  down(event) {
    this.pointers.set(event.pointerId, event);
    this.start = event;
    this.stage.setPointerCapture(event.pointerId);
  }

  moved(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    if (this.pointers.size === 2) {
      const other = [...this.pointers.entries()].find(([id]) => id !== event.pointerId)[1];
      const apart = (each) => Math.hypot(each.clientX - other.clientX, each.clientY - other.clientY);
      this.start = null; // two fingers are no swipe
      this.by(apart(event) / Math.max(apart(before), 1), other);
    } else if (this.scale > 1) {
      this.x += event.clientX - before.clientX;
      this.y += event.clientY - before.clientY;
      this.draw();
    }
    this.pointers.set(event.pointerId, event);
  }

  up(event) {
    this.pointers.delete(event.pointerId);
    if (!this.start || this.scale > 1 || event.type === "pointercancel") return;
    const across = event.clientX - this.start.clientX;
    const down = event.clientY - this.start.clientY;
    if (Math.abs(across) > this.swipe && Math.abs(across) > 2 * Math.abs(down)) this.onSwipe(across < 0);
    this.start = null;
  }
}
