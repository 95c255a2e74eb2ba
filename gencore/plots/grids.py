from pathlib import Path
import numpy as np
from PIL import Image
def save_grid(path, images, columns):
    n,c,h,w=images.shape; rows=-(-n//columns)
    sheet=np.full((rows*h,columns*w,c),255,np.uint8)
    for i in range(n):
        r,k=divmod(i,columns); sheet[r*h:r*h+h,k*w:k*w+w]=images[i].permute(1,2,0).numpy()
    Image.fromarray(sheet.squeeze(-1) if c==1 else sheet).save(path)
