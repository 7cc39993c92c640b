// The picture with what lies over it, on a canvas as fine as the screen.

const KEPT = 60e6; // pixels of decoded pictures, 4 bytes each

export class Stage {
  constructor(canvas, holder) {
    this.canvas = canvas;
    this.holder = holder;
    this.images = new Map(); // by URL, the least recently used first
    this.scene = null; // { view, picture, maps: [{ image, opacity }], drawn: [labels] }
    this.marked = -1; // a row of the table of objects
    new ResizeObserver(() => this.draw()).observe(holder);
  }

  // Each picture is fetched once; null where it is not there any more.
  async image(url) {
    let image = this.images.get(url) ?? null;
    if (!image) {
      const response = await fetch(url);
      if (response.status !== 200) return null;
      image = await createImageBitmap(await response.blob());
    }
    this.images.delete(url);
    this.images.set(url, image);
    let pixels = 0;
    for (const [key, each] of [...this.images].reverse()) {
      pixels += each.width * each.height;
      if (pixels > KEPT && key !== url) this.images.delete(key);
    }
    return image;
  }

  show(scene) {
    this.scene = scene;
    this.draw();
  }

  mark(row) {
    this.marked = row;
    this.draw();
  }

  draw() {
    const { canvas, holder, scene } = this;
    canvas.hidden = !scene || !scene.view.width;
    if (canvas.hidden) return;
    const { width, height } = scene.view;
    const fit = Math.min(holder.clientWidth / width, holder.clientHeight / height);
    const fine = window.devicePixelRatio || 1;
    canvas.width = Math.max(1, Math.round(width * fit * fine));
    canvas.height = Math.max(1, Math.round(height * fit * fine));
    canvas.style.width = `${canvas.width / fine}px`;
    canvas.style.height = `${canvas.height / fine}px`;
    const context = canvas.getContext("2d");
    const scale = canvas.width / width;
    context.imageSmoothingEnabled = scale < 1; // enlarged pixels stay pixels
    context.imageSmoothingQuality = "high";
    if (scene.picture) context.drawImage(scene.picture, 0, 0, canvas.width, canvas.height);
    for (const { image, opacity } of scene.maps) {
      context.globalAlpha = opacity;
      context.drawImage(image, 0, 0, canvas.width, canvas.height);
    }
    context.globalAlpha = 1;
    for (const label of scene.drawn) for (const shape of label.shapes) this.#shape(context, scale, fine, label, shape);
    canvas.dataset.scale = scale;
  }

  #shape(context, scale, fine, label, shape) {
    const { color = "#ffffff", row = -1, paths = [], points = [] } = shape;
    const marked = row >= 0 && row === this.marked;
    context.lineWidth = (marked ? 3.5 : 1.6) * fine;
    context.strokeStyle = color;
    context.setLineDash(label.dash.map((length) => length * fine));
    for (const path of paths) {
      context.beginPath();
      for (let i = 0; i < path.length; i += 2) context.lineTo(path[i] * scale, path[i + 1] * scale);
      context.stroke();
    }
    context.setLineDash([]);
    const radius = (marked ? 4.5 : 3) * fine;
    context.lineWidth = fine;
    for (const [x, y, state] of points) {
      context.beginPath();
      context.arc(x * scale, y * scale, radius, 0, 2 * Math.PI);
      if (state === 2) {
        context.fillStyle = "#ffff00";
        context.fill();
      }
      context.strokeStyle = state === 2 ? "#000000" : "#ffff00";
      context.stroke();
    }
  }
}
